"""Chinese characters that are easily read or written for one another: they differ in a stroke, or in a component of like shape.

Drawn up for raysynth. Numerals and negations are in no group: another number or a lost negation would be another sentence.
"""

_GROUPS = """
己已巳 未末 土士 日曰 人入 太犬大 天夭 夫失矢 木本术 玉主王 干于 午牛 刀力 丸凡 几凡 又叉 乌鸟 免兔 兵乒乓
戊戌戍戎 田由甲申 目且 贝见 冶治 沧沦 仓仑 辨辩辫瓣 睛晴 清情请 蓝篮 历厉 拆折析 拔拨 快块 决诀 侯候 幻幼 券卷
茶荼 遣遗 崇祟 微徽 管菅 籍藉 博搏 幕墓暮慕募 粱梁 粟栗 杆秆 肓盲 官宫 宵霄 今令 冷泠 抄炒吵 井开并 风凤 师帅
炙灸 茸葺 丐丏 刺剌 班斑 缀辍 弛驰 坐座 象像 狼狠很 浪娘 根跟 限恨 眼银 味昧 竞竟 亨享 哀衷衰 要耍 奕弈 毫亳
厂广 庄压 床庆 车东 练炼 捡检 脸险 摘滴 喝渴 饱抱 泡炮 跑袍 场扬 汤烫 找我 代伐 栽载 戴截 低抵 纸底 钱线
浅残 第弟 夏复 爱受 平乎 来米 半羊 样洋 直真 具县 其期 勤勒 劝欢 观现 对双 到倒 们门 问间 闻闲 送选 迷谜
进近 远运 还这 过边 建健 延廷 庭廷 名各 路落 客容 吃屹 软欢 饮炊 饭饮 校较 咬胶 奶仍 扔仍 妈吗 骂码 她他
地池 坡披 破波 被披 菜莱 采彩 踩睬 酒洒 酸酷 鸭鸦 鸣鸡 鱼鲁 而面 汁叶 永水 冰泳 冻栋 凉惊 谅晾 嫩懒 辣棘
刮括 活话 份分 盆盼 粉纷 贪贫 包句 勺匀 均钧 得碍 待持侍 诗特 熊能 困因 囚因 圆园 责贵 货贷 资贺 赏尝 掌常
堂党 帐账 胀张 涨张 股服 版板 饭贩 返近 友反 友发 左在 右石 古占 故姑 苦若 署暑 都部 陪倍 培赔 准淮 谁推
推堆 难雄 焦集 佳住 住往 注柱 拉垃 位泣 何河 呵阿 哪那 即既 却劫 仰抑 贸留 欧殴 区匹 西酉 栖牺 票漂 材村
财材 休体 香杏 季李 秀委 科料 利刹 知如 加如 短矩 桥轿 骄娇 侨桥 奏泰 奏春 棒捧 绿缘 续读 铁轶 铜钢 钥钓
钩钓 链键 汀订 坪评 苹萍 莹萤 荣营 善菩 蔑篾 慢漫 馒漫 扰犹 怀坏 布怖 恰给 恰洽 拾给 抢枪 苍仓 拒柜 距拒
拥佣 捕铺 薄簿 傅博 喉猴 缓援 暖缓 猜精 睁挣 筝挣 峰锋 蜂峰 逢缝 沾粘 帖贴 店占 执热 孰熟 热熟 煮著 烧浇
绕挠 饶晓 烟咽 顷项 须顺 预颁 领颂 频濒 棵颗 课裸 果呆 梨犁 驾架 染柒 梦焚 森淼 绵锦 棉锦 冒昌 帽昌 唱倡
歇喝 蒙豪 家豪 宴晏 焕换 唤换 挽换 另男 拐另 思恩 恋变 弯峦 蛮峦 赫郝 郊效 茎径 轻径 劲颈 蚤蛋 骚蚤 弹掸
单禅 隐稳 葱忽 总聪 职织 识织 积炽 帜炽 纱妙 秒沙 步涉 罗岁 锣箩 笼茏 龙尤 宠庞 影景 剧据 锯据 居届 屋尾
尿尾 尺尽 层尽 斥斤 诉斥 欣掀 砍欣 次吹 咨姿 恣姿 美羡 差羞 差着 看着 盐盖 监盐 滥监 湿温 混棍 皆昆 谐楷
价介 界畏 偎喂 胃谓 渭谓 慰蔚 熨慰 凝疑 毛手 毛笔 亭亮 停亭 亳亭 壳亮 秃秀 透诱 贺货 岸炭 昂昴 柏拍 拌伴
胖伴 宝宅 报服 杯坏 被袖 比北 毕华 壁璧 避僻 臂譬 编偏 骗遍 捎梢 宾滨 摈殡 饼拼 泊拍 卜下 猜清 苍抢 插播
茬荐 察蔡 柴紫 蝉弹 尝党 抄沙 晨震 成戌 城域 诚城 池驰 尺尸 虫由 橱厨 触蚀 喘揣 垂乖 唇辰 慈磁 粗组 租组
促捉 挫锉 掉棹 待诗 担胆 但坦 党觉 导异 蹈滔 敌故 滴嫡 颠填 垫垄 殿臀 雕调 跌铁 叮盯 顶项 钉针
"""


def _lookalikes() -> dict[str, str]:
    """Character → those of all its groups but itself, in the order of the groups."""
    alike: dict[str, dict[str, None]] = {}
    for group in _GROUPS.split():
        for one in group:
            alike.setdefault(one, {}).update(dict.fromkeys(other for other in group if other != one))
    return {one: "".join(others) for one, others in alike.items()}


LOOKALIKES = _lookalikes()

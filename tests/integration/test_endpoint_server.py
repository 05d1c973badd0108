"""The endpoint generator against a server with faults: exact rows, no call paid twice, a clear stop, and no secret told."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest
from fakes_llm import FakeLLM

from raysynth.chat import GONE_SECONDS, MOST_REFUSED, objects_in
from raysynth.cluster.endpoint import StoredReplies, spent
from raysynth.codecs.records import RecordCodec
from raysynth.draws import Draws
from raysynth.errors import RaysynthError, RecipeError, RuleError, SpentError, StoppedError
from raysynth.generators._prompts import checked, described, prompt_of, schema_of
from raysynth.generators.endpoint import Endpoint
from raysynth.knowledge import Knowledge, Triple
from raysynth.layout import Facts, RecordColumn, Records
from raysynth.models import Model
from raysynth.parts import check_options, deciding, whole_options
from raysynth.recipe_files import parse_recipe
from raysynth.runs import Folder
from raysynth.sampler import Sampler
from raysynth.schema import FILE, ROW, TURNS, Column, Schema

SCHEMA = Schema(
    (
        Column("label", "category", pa.string(), nullable=False),
        Column("stars", "integer", pa.int8(), nullable=False),
        Column("said", "text", pa.string(), nullable=False),
        Column("id", "id", pa.string(), nullable=False),
    )
)
REAL = pa.table(
    {
        "label": ["good", "bad", "good", "so-so"] * 10,
        "stars": pa.array([5, 1, 4, 3] * 10, pa.int8()),
        "said": [f"真实的话 {row}, really said" for row in range(40)],
        "id": [f"r{row:04d}" for row in range(40)],
        FILE: ["a.csv"] * 40,
        ROW: pa.array(range(40), pa.int64()),
    }
)
QUICK: dict[str, Any] = {"backoff_seconds": 0.01, "timeout_seconds": 10.0, "concurrency": 8}


@pytest.fixture
def server() -> Iterator[FakeLLM]:
    with FakeLLM() as fake:
        yield fake


def codec() -> RecordCodec:
    made = RecordCodec(SCHEMA, seed=3)
    made.settle(made.observe(REAL))
    return made


def endpoint(url: str, **options: Any) -> Endpoint:
    made = codec()
    generator = Endpoint(made.layout, url=url, model="m", **{**QUICK, **options})
    generator.remember(made.encode(REAL))
    return generator


def folder() -> Folder:
    return Folder(f"memory://test-endpoint/{uuid4().hex}/synthetic/abc")


def sampler(generator: Endpoint, place: Folder | None, workers: int = 1, **options: Any) -> Sampler:
    if place is not None:
        generator.replies = StoredReplies(place, generator, workers=workers)
    return Sampler(Model(SCHEMA, {}, codec(), generator, "", {}), seed=11, **options)


def prompts(fake: FakeLLM) -> list[str]:
    return [body["messages"][0]["content"] for body in fake.bodies]


def test_every_fault_is_outlived_and_no_answer_is_paid_for_twice() -> None:
    faults = {3: "busy", 5: "slow", 9: "broken", 11: "cut", 13: "rubbish", 16: "broken", 17: "rubbish"}
    with FakeLLM(lambda call: faults.get(call, "error" if call % 7 == 0 else None), slow_seconds=1.5) as fake:
        place = folder()
        rows = sampler(endpoint(fake.url, timeout_seconds=1.0), place).range(0, 60)
        assert rows.num_rows == 60
        assert rows.schema == SCHEMA.arrow
        assert set(rows["label"].to_pylist()) == {"good", "bad", "so-so"}
        assert len(set(rows["said"].to_pylist())) == len(set(rows["id"].to_pylist())) == 60
        assert max(fake.answered.values()) == 1
        assert len(fake.answered) == 62, "60 rows, and two answers that were no row"
        stored = list(place.store.list(place.system_url("replies")))
        assert len(stored) == 62, "those that were no row too, and no page that a server shows instead of one"
        before = fake.calls.total()
        again = sampler(endpoint(fake.url, concurrency=3), place).pieces(
            [(11, np.arange(40, 60, dtype=np.uint64)), (11, np.arange(40, dtype=np.uint64))]
        )
        assert again.take(list(range(20, 60)) + list(range(20))).equals(rows.combine_chunks())
        assert fake.calls.total() == before


def test_a_rows_reply_is_its_own_whoever_asks_with_it(server: FakeLLM) -> None:
    generator = endpoint(server.url)
    draws = Draws.range(1, "generate", 0, 9)
    requests = generator.request(draws, None)
    assert requests[4:6] == generator.request(draws.take(np.array([4, 5])), None)
    assert len({json.dumps(request) for request in [*requests, *generator.request(draws.attempt(1), None)]}) == 18


def test_where_goes_into_the_prompt_and_holds_in_every_row(server: FakeLLM) -> None:
    rows = sampler(endpoint(server.url, shots=2), None, where={"label": ["bad", "so-so"], "stars": {"max": 3}}).range(0, 12)
    assert set(rows["label"].to_pylist()) <= {"bad", "so-so"}
    assert max(rows["stars"].to_pylist()) <= 3
    assert len(server.bodies) > 12, "the server does not heed the range: such rows were drawn again"
    for prompt in prompts(server):
        assert '- "stars": a whole number from 1 to 3' in prompt
        assert 'label = "bad"' in prompt or 'label = "so-so"' in prompt
        assert '"good"' not in prompt, "neither as what is settled nor by an example"


def test_a_beginning_that_is_asked_for_is_in_the_prompt(server: FakeLLM) -> None:
    rows = sampler(endpoint(server.url), None, where={"said": {"starts": "said 写"}}).range(0, 3)
    assert all(text.startswith("said 写") for text in rows["said"].to_pylist())
    assert all('begins with the words "said 写"' in prompt for prompt in prompts(server))


def test_a_value_that_no_train_row_has_is_refused_before_any_call(server: FakeLLM) -> None:
    with pytest.raises(RecipeError, match=r"where.label: no train row has 'great'.*bad, good"):
        sampler(endpoint(server.url), None, where={"label": "great"})
    with pytest.raises(RecipeError, match=r"where.id: ids are made anew"):
        sampler(endpoint(server.url), None, where={"id": "r0001"})
    with pytest.raises(RecipeError, match=r"where.stars: no train row has this range"):
        sampler(endpoint(server.url), None, where={"stars": {"min": 9}})


def test_at_the_budget_it_stops_and_goes_on_once_that_is_raised(server: FakeLLM) -> None:
    place = folder()
    with pytest.raises(SpentError, match=r"generator.max_tokens: 1,500: 1,\d00 tokens are read and 2\d0 written") as stop:
        sampler(endpoint(server.url, max_tokens=1500, concurrency=2), place).range(0, 30)
    assert stop.value.exit_code == 4
    assert server.tokens == 12 * 120, "a thirteenth call would not fit"
    assert sum(spent(place)) == server.tokens
    with pytest.raises(SpentError):
        sampler(endpoint(server.url, max_tokens=1440), place).range(0, 30)
    assert server.calls.total() == 12
    assert sampler(endpoint(server.url, max_tokens=1_000_000), place).range(0, 30).num_rows == 30
    assert max(server.calls.values()) == 1
    assert spent(place) == (3000, 600)


def test_the_probe_of_the_rules_is_made_of_first_attempts_and_of_none_where_rows_are_few(server: FakeLLM) -> None:
    place, generator = folder(), endpoint(server.url)
    generator.probe_rows = 20
    made = sampler(generator, place, rules=["stars <= 4"])
    made.check_acceptance(19)
    assert not server.calls
    made.check_acceptance(25)
    assert server.calls.total() == 20
    assert sampler(generator, place, rules=["stars <= 4"]).range(0, 25).num_rows == 25
    assert max(server.calls.values()) == 1
    with pytest.raises(RuleError, match=r"of 20 probe rows 0.00% hold"):
        sampler(generator, place, rules=["stars > 9"]).check_acceptance(25)


def test_money_is_counted_by_the_prices(server: FakeLLM) -> None:
    place = folder()
    options: dict[str, Any] = {"max_money": 0.004, "input_price": 2.0, "output_price": 10.0, "concurrency": 1}
    with pytest.raises(SpentError, match=r"generator.max_money: 0.004"):
        sampler(endpoint(server.url, **options), place).range(0, 30)
    assert server.calls.total() == 10, "0.0004 each"
    with pytest.raises(RecipeError, match="max_money: 1 needs input_price and output_price"):
        endpoint(server.url, max_money=1.0)


def test_workers_that_share_a_budget_stay_within_it(server: FakeLLM) -> None:
    place, stopped = folder(), list[SpentError]()

    def work(first: int) -> None:
        try:
            sampler(endpoint(server.url, max_tokens=120 * 100, concurrency=2), place, workers=4).range(first, first + 200)
        except SpentError as error:
            stopped.append(error)

    threads = [threading.Thread(target=work, args=(200 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stopped) == 4
    assert 100 <= server.calls.total() <= 100 + 4 * 3, "those in flight, and the one after which a worker looks again"
    assert sum(spent(place)) == server.tokens


def test_a_server_that_is_gone_stops_the_work_until_it_is_back() -> None:
    fake = FakeLLM(lambda call: "gone" if call > 20 else None)
    place = folder()
    with pytest.raises(StoppedError, match=r"generator.url: http://127.0.0.1:\d+/v1 does not answer .*asked 3 times") as stop:
        sampler(endpoint(fake.url, retries=2), place).range(0, 40)
    assert stop.value.exit_code == 4
    fake.stop()
    with pytest.raises(StoppedError, match="Connection"):
        sampler(endpoint(fake.url, retries=1), place).range(0, 40)
    paid = dict(fake.answered)
    assert 10 < len(paid) <= 20
    fake.faults = lambda _: None
    fake.start()
    assert sampler(endpoint(fake.url), place).range(0, 40).num_rows == 40
    assert all(fake.answered[key] == 1 for key in paid)
    fake.stop()


def test_a_server_that_wants_more_than_ten_minutes_is_not_waited_for() -> None:
    with FakeLLM(lambda _: lambda handler: handler.reply({"error": "quota"}, 429, {"Retry-After": "86400"})) as fake:
        with pytest.raises(StoppedError, match=r"status 429: quota.*asked 1 times"):
            endpoint(fake.url).send(_one(endpoint(fake.url)))
        assert fake.calls.total() == 1


def test_a_server_that_is_back_is_asked_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who serves such a model does not start again for each outage."""
    with FakeLLM(lambda call: "error" if call <= 2 else None) as fake:
        generator = endpoint(fake.url, retries=1)
        for _ in range(2):
            with pytest.raises(StoppedError, match="asked 2 times"):
                generator.send(_one(generator))
        assert fake.calls.total() == 2, "at once it is not asked again"
        now = time.monotonic()
        monkeypatch.setattr("raysynth.chat.time.monotonic", lambda: now + GONE_SECONDS + 1)
        assert generator.parse([generator.send(_one(generator))]).rows == 1
        assert fake.calls.total() == 3


@pytest.mark.parametrize(
    "page",
    [b"<html>maintenance</html>", b"[]", {"error": {"message": "no provider", "code": 502}}, {"choices": None}],
    ids=["page", "list", "error", "null"],
)
def test_an_answer_without_choices_is_none_and_is_tried_again(page: Any) -> None:
    place = folder()
    with FakeLLM(lambda call: None if call == 4 else lambda handler: handler.reply(page)) as fake:
        generator = endpoint(fake.url, retries=2)
        stored = StoredReplies(place, generator)
        with pytest.raises(StoppedError, match=r"status 200 without choices.*asked 3 times"):
            stored([_one(generator)])
        assert not list(place.store.list(place.system_url("replies")))
        assert "choices" in StoredReplies(place, twin := endpoint(fake.url))([_one(twin)])[0]["answer"]


@pytest.mark.parametrize("content", ["{broken", "half \ud83d of a character", None])
def test_an_answer_that_is_no_row_is_paid_for_once(content: str | None) -> None:
    answer = {"choices": [{"message": {"content": content}}], "usage": {"prompt_tokens": 70, "completion_tokens": 9}}
    with FakeLLM(lambda _: lambda handler: handler.reply(answer)) as fake:
        generator = endpoint(fake.url)
        reply = StoredReplies(place := folder(), generator)([_one(generator)])
        assert not generator.parse(reply).accepted.any()  # pyright: ignore[reportOptionalMemberAccess]
        assert fake.calls.total() == 1
        assert sum(spent(place)) > 0


def test_bytes_that_trickle_do_not_hold_a_call_for_ever() -> None:
    def trickle(handler: Any) -> None:
        handler._head(200, 10_000, {})
        for _ in range(40):
            try:
                handler.wfile.write(b" ")
            except OSError:
                return
            threading.Event().wait(0.02)

    with FakeLLM(lambda _: trickle) as fake, pytest.raises(StoppedError, match=r"no answer in 0.1 s.*asked 1 times"):
        endpoint(fake.url, timeout_seconds=0.1, retries=0).send(_one(endpoint(fake.url)))


def test_the_key_is_sent_and_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    place = folder()

    def echo(status: int) -> Callable[[Any], None]:
        return lambda handler: handler.reply({"error": {"message": f"no: {handler.headers['Authorization']}"}}, status)

    with FakeLLM(lambda call: {1: None, 2: echo(401), 3: echo(400), 4: echo(404), 5: echo(500)}[call]) as fake:
        generator = endpoint(fake.url, key_variable="MY_KEY", retries=0, output="json_schema")
        stored = StoredReplies(place, generator)
        stored([_one(generator)])
        assert fake.keys == {"Bearer sk-very-secret"}
        told: list[str] = [repr(generator.chat), json.dumps(generator.state()[1])]
        for number in (1, 2, 3, 4):
            if number == 2:
                told.append(json.dumps(stored([_one(generator, number)])))
                continue
            with pytest.raises(RaysynthError) as error:
                stored([_one(generator, number)])
            told.append(str(error.value))
        assert "refused" in told[3]
        told += [place.store.read(stat.url).decode() for stat in place.store.list(place.url)]
        assert "MY_KEY" in told[2]
        assert not any("very-secret" in text for text in told)
    monkeypatch.setenv("MY_KEY", "sk-broken\n\x01line")
    with FakeLLM() as fake, pytest.raises(RecipeError, match="MY_KEY holds a character that no key has") as error:
        endpoint(fake.url, key_variable="MY_KEY").send(_one(endpoint(fake.url)))
    assert "broken" not in str(error.value)


@pytest.mark.parametrize(
    "spelled",
    [
        str,
        lambda key: "".join(f"\\u{ord(letter):04x}" for letter in key),
        lambda key: json.dumps(json.dumps(key.replace("/", "\\/"))),
    ],
    ids=["plain", "escaped", "escaped in JSON in JSON"],
)
def test_an_answer_that_holds_the_key_is_no_row_and_is_not_kept(spelled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-very/secret\\key"
    monkeypatch.setenv("MY_KEY", key)

    def echo(handler: Any) -> None:
        said = f'{{"label": "good", "stars": 5, "said": "{spelled(key)}"}}'
        usage = {"prompt_tokens": 70, "completion_tokens": 9, "more": key}
        answer = json.dumps({"choices": [{"message": {"content": said}}], "usage": usage})
        handler.reply(answer.encode("utf-16" if len(fake.bodies) == 2 else "utf-8"))

    with FakeLLM(lambda call: echo if call <= 2 else None) as fake:
        place = folder()
        made = sampler(endpoint(fake.url, key_variable="MY_KEY", drawn=[]), place)
        rows = made.range(0, 3)
        assert made.rejects == {"the generator": 2}
        stored = [place.store.read(stat.url).decode() for stat in place.store.list(place.url)]
        assert sum("it held the key" in text for text in stored) == 2
        assert "very" not in "".join([*stored, str(rows.to_pylist())])
        assert spent(place) == (2 * 70 + 3 * 100, 2 * 9 + 3 * 20), "it is paid for"


def test_a_word_that_stands_in_for_a_key_may_stand_in_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers on one's own machine ask for none."""
    monkeypatch.setenv("MY_KEY", "said")
    with FakeLLM() as fake:
        made = sampler(endpoint(fake.url, key_variable="MY_KEY"), None)
        assert made.range(0, 3).num_rows == 3 and not made.rejects.total()


def test_an_answer_without_end_is_told_as_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysynth.chat.MOST_BYTES", 1 << 20)
    with (
        FakeLLM(lambda _: lambda handler: handler.reply(b" " * (2 << 20))) as fake,
        pytest.raises(
            StoppedError, match=r"does not answer as it should \(an answer of more than 1 MiB, which no reply has\), asked 1"
        ),
    ):
        endpoint(fake.url, retries=0).send(_one(endpoint(fake.url)))


def test_no_redirect_is_followed(server: FakeLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    away = {"Location": f"{server.url}/chat/completions"}
    with FakeLLM(lambda _: lambda handler: handler.reply({}, 307, away)) as fake, pytest.raises(RecipeError, match="answered 307"):
        endpoint(fake.url).send(_one(endpoint(fake.url)))
    assert server.calls.total() == 0


def test_a_server_without_schemas_is_asked_once_with_one_and_then_without() -> None:
    with FakeLLM(schemas=False) as fake:
        place = folder()
        generator = endpoint(fake.url, concurrency=1)
        assert sampler(generator, place).range(0, 5).num_rows == 5
        assert sum("response_format" in body for body in fake.bodies) == 1
        with pytest.raises(RecipeError, match=r"answered 422: Unsupported fields.*generator.extra"):
            endpoint(fake.url, output="json_schema").send(_one(generator))


def _refuse(handler: Any, message: str = "no", code: str | None = None, status: int = 400) -> None:
    handler.reply({"error": {"message": message, "code": code}}, status)


@pytest.mark.parametrize(
    ("message", "code", "status"),
    [
        ("The response was filtered due to the prompt triggering content management policy", "content_filter", 400),
        ("Your request was rejected", "content_policy_violation", 400),
        ("This model's maximum context length is 4096 tokens", None, 400),
        ("Your input was flagged", "content_filter", 403),
        ("no", "content_filter", 200),
    ],
)
def test_a_prompt_that_is_refused_is_no_row_and_the_next_attempt_has_another(message: str, code: str | None, status: int) -> None:
    place = folder()
    with FakeLLM(lambda call: (lambda handler: _refuse(handler, message, code, status)) if call in (1, 4) else None) as fake:
        made = sampler(endpoint(fake.url, concurrency=1), place)
        rows = made.range(0, 5)
        assert made.rejects == {"the generator": 2}
        assert all("response_format" in body for body in fake.bodies)
        assert spent(place) == (500, 100), "a refusal costs nothing"
        assert sampler(endpoint(fake.url), place).range(0, 5).equals(rows)
        assert fake.calls.total() == 7


def test_a_refusal_without_a_reason_is_of_one_prompt_once_another_was_answered() -> None:
    bad: list[Any] = []

    def refused(call: int) -> Callable[[Any], None] | None:
        """The fourth prompt, however often it is asked."""
        prompt = (fake.bodies[-1]["seed"], fake.bodies[-1]["messages"])
        bad.extend([prompt] if call == 4 else [])
        return _refuse if prompt in bad else None

    with FakeLLM(refused) as fake:
        place = folder()
        made = sampler(endpoint(fake.url, concurrency=1), place)
        assert made.range(0, 8).num_rows == 8
        assert made.rejects == {"the generator": 1}
        assert all("response_format" in body for body in fake.bodies), "the server knows schemas: none is left out for it"


def test_whoever_resumes_knows_that_the_server_has_answered() -> None:
    place = folder()
    with FakeLLM(lambda call: _refuse if call == 2 else None) as fake:
        sampler(endpoint(fake.url), place).range(0, 1)
        made = sampler(endpoint(fake.url, output="json_schema"), place)
        assert made.range(5, 6).num_rows == 1
        assert made.rejects == {"the generator": 1}


def test_a_server_that_refuses_every_prompt_ends_the_work() -> None:
    with FakeLLM(lambda call: _refuse if call > 5 else None) as fake:
        with pytest.raises(RecipeError, match=rf"refused {MOST_REFUSED + 1} prompts in a row, the last one by 400: no"):
            sampler(endpoint(fake.url, concurrency=1), folder()).range(0, 300)
        assert fake.calls.total() <= 5 + MOST_REFUSED + 2, "the next one may be on its way already"


def test_a_first_call_that_fails_for_another_reason_does_not_give_up_schemas() -> None:
    with FakeLLM(lambda call: _refuse if call == 1 else None) as fake:
        assert sampler(endpoint(fake.url, concurrency=1), None).range(0, 3).num_rows == 3
        assert ["response_format" in body for body in fake.bodies] == [True, False, True, True]


def test_other_words_of_a_call_can_be_set_and_left_out(server: FakeLLM) -> None:
    extra = {"max_completion_tokens": 50, "max_tokens": None, "seed": None}
    sampler(endpoint(server.url, extra=extra, output="instruction", temperature=0.5), None).range(0, 1)
    assert set(server.bodies[0]) == {"model", "messages", "temperature", "top_p", "stream", "max_completion_tokens"}
    assert (server.bodies[0]["temperature"], server.bodies[0]["stream"]) == (0.5, False)


def test_examples_are_real_rows_of_the_settled_label_and_none_is_given_back(server: FakeLLM) -> None:
    generator = endpoint(server.url, shots=3)
    sampler(generator, None).range(0, 20)
    for prompt in prompts(server):
        settled = json.loads(prompt.split("label = ")[1].split("\n")[0])
        shown = [json.loads(line[2:]) for line in prompt.splitlines() if line.startswith("- {")]
        assert len({json.dumps(row) for row in shown}) == 3
        assert {row["label"] for row in shown} == {settled}
        assert all(set(row) == {"label", "stars", "said"} for row in shown), "an id is no part of it"
    copy = {"stars": 5, "said": REAL["said"][0].as_py()}
    assert not _parsed(generator, copy, {"label": "bad"})
    assert _parsed(generator, {**copy, "said": "something else"}, {"label": "bad"})


def test_without_shots_no_text_of_a_real_row_is_kept_or_told(server: FakeLLM) -> None:
    generator = endpoint(server.url, shots=0)
    sampler(generator, None).range(0, 5)
    assert "really said" not in json.dumps(generator.state()[1]) + "".join(prompts(server))
    bare = endpoint(server.url, shots=0, drawn=())
    assert bare.pool_rows == 0
    sampler(bare, None).range(0, 3)
    assert '"label": one of "bad", "good", "so-so"' in prompts(server)[-1]


def test_drawn_columns_are_distributed_as_in_the_real_rows(server: FakeLLM) -> None:
    requests = endpoint(server.url).request(Draws.range(1, "generate", 0, 2000), None)
    good = sum(request["settled"]["label"] == "good" for request in requests)
    assert 920 < good < 1080, "half of the real rows are; four standard deviations"


def test_what_is_known_of_the_settled_is_in_the_prompt(server: FakeLLM) -> None:
    generator = endpoint(server.url)
    generator.know(Knowledge((Triple("bad", "opposite", "good"), Triple("Paris", "country", "France"))))
    twin = endpoint(server.url)
    twin.load(*generator.state())
    sampler(twin, None, where={"label": "bad"}).range(0, 2)
    assert all("The opposite of bad is good." in prompt and "Paris" not in prompt for prompt in prompts(server))


def test_a_prompt_of_ones_own(server: FakeLLM) -> None:
    sampler(endpoint(server.url, prompt='写一行 {columns}{settled} as {"json": 1} {facts}.'), None).range(0, 1)
    (prompt,) = prompts(server)
    assert prompt.startswith('写一行 - "stars": a whole number from 1 to 5\n- "said": a text of ')
    assert prompt.endswith('as {"json": 1} .')
    assert prompt_of("{settled}", (), {"a": "{examples}"}, ["{facts}"], ["f"]).count("{examples}") == 1


TEXT = RecordColumn("t", "text", "string", False, None, 2, 10)


@pytest.mark.parametrize(
    ("column", "value", "kept"),
    [
        (TEXT, "喂", "喂"),
        (TEXT, "x" * 20, "x" * 20),
        (TEXT, "x" * 21, None),
        (TEXT, "  ", None),
        (TEXT, 5, None),
        (TEXT, None, None),
        (TEXT, "\ud800", None),
        (RecordColumn("n", "integer", "int8", True, None, -3, 99), 99, 99),
        (RecordColumn("n", "integer", "int8", True, None, -3, 99), 5.0, 5),
        (RecordColumn("n", "integer", "int8", True, None, -3, 99), 100, None),
        (RecordColumn("n", "integer", "int8", True, None, -3, 99), "5", None),
        (RecordColumn("n", "integer", "int8", True, None, -3, 99), True, None),
        (RecordColumn("n", "integer", "int8", True, None, -3, 99), 10**30, None),
        (RecordColumn("n", "number", "double", True, None, 0.0, 1.0), float("nan"), None),
        (RecordColumn("n", "number", "double", True, None, 0.0, 1.0), 1, 1.0),
        (RecordColumn("p", "number", "decimal128(5, 2)", True, None, "0.00", "99.00"), 12.5, "12.50"),
        (RecordColumn("p", "number", "decimal128(5, 2)", True, None, "0.00", "99.00"), 12.555, None),
        (RecordColumn("c", "category", "string", False, ("a", "b")), "b", "b"),
        (RecordColumn("c", "category", "string", False, ("a", "b")), "c", None),
        (RecordColumn("b", "boolean", "bool", False, (False, True)), 1, None),
        (RecordColumn("d", "date", "date32[day]", True, None, "2020-01-01", "2020-12-31"), "2020-02-29", "2020-02-29"),
        (RecordColumn("d", "date", "date32[day]", True, None, "2020-01-01", "2020-12-31"), "2021-02-29", None),
        (RecordColumn("d", "date", "date32[day]", True, None, "2020-01-01", "2020-12-31"), "2021-01-01", None),
        (RecordColumn("w", "datetime", "timestamp[s, tz=Asia/Shanghai]", True), "2020-01-01T08:00:00", "2020-01-01 08:00:00+0800"),
        (RecordColumn("w", "datetime", "timestamp[s, tz=Asia/Shanghai]", True), "yesterday", None),
        (RecordColumn("j", "json", "string", True, None, 2, 10), "[1]", "[1]"),
        (RecordColumn("j", "json", "string", True, None, 2, 10), "[1", None),
        (RecordColumn("s", "text", "string", True, None, 1, 9, "从前"), "从前有人", "从前有人"),
        (RecordColumn("s", "text", "string", True, None, 1, 9, "从前"), "有人", None),
    ],
)
def test_values_are_checked_against_their_column(column: RecordColumn, value: Any, kept: Any) -> None:
    if kept is None:
        with pytest.raises(ValueError, match=f"^{column.name}: "):
            checked({column.name: value}, [column])
    else:
        assert checked({column.name: value}, [column]) == {column.name: kept}


def test_rows_with_a_column_too_many_or_too_few_are_none() -> None:
    with pytest.raises(ValueError, match="x: no such column"):
        checked({"t": "yes", "x": 1}, [TEXT])
    with pytest.raises(ValueError, match="t: must not be null"):
        checked({}, [TEXT])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": 1}', {"a": 1}),
        ('Sure!\n```json\n{"a": {"b": "}"}}\n```', {"a": {"b": "}"}}),
        ("no", None),
        ('{"a": 1', None),
        ("[1]", None),
        ("{" * 5000, None),
        ('{"a":' * 5000, None),
    ],
)
def test_an_object_is_found_in_what_stands_around_it(text: str, found: Any) -> None:
    assert next(objects_in(text), None) == found


def test_the_objects_behind_one_that_breaks_off_are_found() -> None:
    text = 'as {asked}: {"a": {"b": oh}} or {} and then {"c": 1, "d": {"e": 2}}{"f": "{"}'
    assert list(objects_in(text)) == [{"c": 1, "d": {"e": 2}}, {"f": "{"}]


@pytest.mark.parametrize("text", ["{", '{"', '{"a', '{"a":', '{ "x" {', '{"a":[1,', '{"\\"{', '{"a":1}'])
def test_looking_for_objects_takes_as_long_as_the_text_is(text: str) -> None:
    started = time.monotonic()
    assert all(found == {"a": 1} for found in objects_in(text * 300_000))
    assert time.monotonic() - started < 5, "each ends within half a second on an idle machine"


def test_a_row_is_found_behind_what_the_model_thought(server: FakeLLM) -> None:
    generator = endpoint(server.url)
    row = json.dumps({"stars": 5, "said": "something else"})
    for text in (f'<think>{{"a": 1}}, or {{"stars": 9}}</think>{row}', f"as {{asked}}: {row}", f'{{"stars": 5, {row}'):
        answer = {"choices": [{"message": {"content": text}}]}
        batch = generator.parse([{"settled": {"label": "good"}, "answer": answer}])
        assert json.loads(batch["rows"][0]) == {"label": "good", "stars": 5, "said": "something else"}


def test_the_schema_says_types_and_values_and_leaves_out_what_is_settled() -> None:
    columns = (*codec().layout.columns, RecordColumn("n", "number", "double", True))
    assert schema_of(columns, {"label": "good"}) == {
        "type": "object",
        "properties": {"stars": {"type": "integer"}, "said": {"type": "string"}, "n": {"type": ["number", "null"]}},
        "required": ["stars", "said", "n"],
        "additionalProperties": False,
    }
    assert schema_of(columns[:1], {})["properties"] == {"label": {"enum": ["bad", "good", "so-so"]}}
    assert described(columns[-1]) == "a number, or null"


def test_options_that_decide_no_row_are_in_no_id() -> None:
    options = {"url": "http://a/v1", "model": "m", "max_tokens": 5, "concurrency": 9, "shots": 2}
    one = deciding("generators", whole_options("generators", "endpoint", options))
    two = deciding("generators", whole_options("generators", "endpoint", {"url": "http://b/v1", "model": "m", "shots": 2}))
    assert one == two
    assert "url" not in one
    assert one != deciding("generators", whole_options("generators", "endpoint", {**options, "shots": 3}))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "ftp://a/v1", "model": "m"}, r"generator.url: must be http\(s\)://host"),
        ({"url": "http://u:p@a/v1", "model": "m"}, "generator.url: must be http"),
        ({"url": "http://h:99999/v1", "model": "m"}, r"generator.url: must be http\(s\)://host\[:port\]"),
        ({"url": "http://h:port/v1", "model": "m"}, "generator.url: must be http"),
        ({"url": "http://hôte/v1", "model": "m"}, "generator.url: must be http.* in ASCII"),
        ({"url": "http://h/模型/v1", "model": "m"}, "generator.url: must be http.* in ASCII"),
        ({"url": f"http://{'h' * 64}.org/v1", "model": "m"}, "generator.url: must be http"),
        (
            {"url": "http://a/v1", "model": "m", "key_variable": "sk-123"},
            "generator.key_variable: must be the name of an environment variable",
        ),
        ({"url": "http://a/v1", "model": ""}, "generator.model"),
        ({"url": "http://a/v1"}, "generator.model: must be given"),
        ({"url": "http://a/v1", "model": "m", "output": "xml"}, "generator.output"),
        ({"url": "http://a/v1", "model": "m", "concurrency": 0}, "generator.concurrency"),
    ],
)
def test_bad_options_are_refused_when_the_recipe_loads(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said) as error:
        parse_recipe({"name": "x", "source": "examples://wine", "generator": {"use": "endpoint", **options}})
    assert "u:p" not in str(error.value)
    assert "sk-123" not in str(error.value)
    check_options(Endpoint, {"url": "https://api.example.com/v1/", "model": "m", "drawn": ["label"]}, "generator")


def test_columns_to_draw_must_be_there_and_leave_something_to_ask() -> None:
    layout = Records((RecordColumn("a", "category", "string", False, ("x", "y")), TEXT))
    with pytest.raises(RecipeError, match=r"generator.drawn: no column 'b' that is learnt. Columns: a, t"):
        Endpoint(layout, url="http://a/v1", model="m", drawn=("b",))
    with pytest.raises(RecipeError, match="nothing is left to ask for"):
        Endpoint(layout, url="http://a/v1", model="m", drawn=("a", "t"))
    assert Endpoint(Records(layout.columns[:1]), url="http://a/v1", model="m").drawn == ()


def _one(generator: Endpoint, number: int = 0) -> Facts:
    return generator.request(Draws.range(1, "generate", number, number + 1), None)[0]


def _parsed(generator: Endpoint, row: Facts, settled: Facts) -> bool:
    answer = {"choices": [{"message": {"content": json.dumps(row)}}]}
    accepted = generator.parse([{"settled": settled, "answer": answer}]).accepted
    assert accepted is not None
    return bool(accepted[0])


def test_conversations_are_told_and_read_as_lists_of_turns() -> None:
    schema = Schema((Column("topic", "category", pa.string()), Column("talk", "turns", TURNS)))
    talk = [[{"role": "user", "content": "在吗"}, {"role": "agent", "content": "yes"}], None]
    rows = pa.table(
        {"topic": pa.array(["a", "b"]), "talk": pa.array(talk, TURNS), FILE: ["f", "f"], ROW: pa.array([0, 1], pa.int64())}
    )
    made = RecordCodec(schema)
    columns = made.settle(made.observe(rows)).columns
    assert made.decode(made.encode(rows), Draws.range(1, "decode", 0, 2)).equals(rows.select(schema.names))
    assert described(columns[1]) == 'a list of turns {"role": "agent" or "user", "content": …} of 2 to 2 turns, or null'
    turns = schema_of(columns, {"topic": "a"})["properties"]["talk"]["anyOf"][0]["items"]
    assert turns["required"] == ["role", "content"]
    assert turns["properties"]["role"] == {"enum": ["agent", "user"]}
    assert checked({"topic": "a", "talk": talk[0]}, columns) == {"topic": "a", "talk": talk[0]}
    twin = RecordCodec(schema)
    twin.load(*json.loads(json.dumps(made.state())))
    assert twin.layout == made.layout
    for bad in ("text", [{"role": "user"}], [{"role": "user", "content": 5}], talk[0] + talk[0] + talk[0]):
        with pytest.raises(ValueError, match=r"^talk: "):
            checked({"topic": "a", "talk": bad}, columns)


def _talk(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


def _talk_column(*talks: list[dict[str, str]] | None) -> RecordColumn:
    made = RecordCodec(Schema((Column("talk", "turns", TURNS),)))
    stats = [
        made.observe(pa.table({"talk": pa.array([talk], TURNS), FILE: ["f"], ROW: pa.array([row], pa.int64())}))
        for row, talk in enumerate(talks)
    ]
    merged = stats[0]
    for other in stats[1:]:
        merged = merged.merge(other)
    return made.settle(merged).columns[0]


@pytest.mark.parametrize(
    ("turns", "kept"),
    [
        (_talk(("user", "hello")), _talk(("user", "hello"))),
        (_talk(("  user ", " cafe\u0301\n")), _talk(("user", "café"))),
        (_talk(("Böt\u202e", "hello")), None),
        (_talk(("User", "hello")), None),
        (_talk((" ", "hello")), None),
        (_talk(("user", "hello"), ("assistant", " ")), None),
    ],
)
def test_turns_have_the_roles_of_train_rows_and_say_something(turns: Any, kept: Any) -> None:
    column = _talk_column(_talk(("user", "a")), None, _talk(("user", "b"), ("assistant", "c")))
    if kept is None:
        with pytest.raises(ValueError, match=r"^talk: "):
            checked({"talk": turns}, [column])
    else:
        assert checked({"talk": turns}, [column]) == {"talk": kept}


def test_a_turn_may_say_nothing_where_one_of_a_train_row_does() -> None:
    column = _talk_column(_talk(("user", "a")), _talk(("user", "")))
    assert checked({"talk": _talk(("user", ""))}, [column])


def test_roles_are_not_named_where_they_are_too_many_or_none() -> None:
    many = _talk_column(*(_talk((f"person {number}", "hello")) for number in range(17)))
    assert many.roles is None
    assert '"role": …' in described(many)
    assert checked({"talk": _talk(("somebody", "hello"))}, [many])
    assert _talk_column(None).roles is None, "no server takes an enum of nothing"

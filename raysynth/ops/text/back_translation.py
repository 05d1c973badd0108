"""Texts → the same translated into another language and back, by a language model that is asked over HTTP (Sennrich et al., "Improving
neural machine translation models with monolingual data", ACL 2016); the label stays."""

from typing import Annotated, Any

from pydantic import Field

from raysynth.chat import Address, Variable
from raysynth.ops.text._rewriting import ANSWER, Rewriting
from raysynth.schema import Schema
from raysynth.words import language

NAMES = {"en": "English", "zh": "Chinese"}
PROMPT = f"""Translate the following text into %s. Keep all names and all numbers.
{ANSWER}

"""


class BackTranslation(Rewriting):
    """`through`: the language between, as the prompt names it (null: Chinese for English texts, English for all others); `language`: that of
    the texts (null: English or Chinese, by their letters; rows in others are then left out). Two calls a text: the real texts go to the
    server at `url`, whose other options are those of the generator endpoint. What is no other text in the same language is asked for
    again; a row that gets none in three tries is left out."""

    def __init__(
        self,
        schema: Schema,
        *,
        url: Address,
        model: Annotated[str, Field(min_length=1)],
        through: Annotated[str, Field(min_length=1)] | None = None,
        language: Annotated[str, Field(min_length=1)] | None = None,
        key_variable: Variable = "OPENAI_API_KEY",
        columns: tuple[str, ...] | None = None,
        temperature: Annotated[float, Field(ge=0, le=2)] = 1.0,
        reply_tokens: Annotated[int, Field(ge=1)] = 1024,
        extra: dict[str, Any] | None = None,
        concurrency: Annotated[int, Field(ge=1, le=256)] = 8,
        timeout_seconds: Annotated[float, Field(gt=0)] = 120.0,
        retries: Annotated[int, Field(ge=0, le=20)] = 6,
        backoff_seconds: Annotated[float, Field(gt=0)] = 1.0,
        max_tokens: Annotated[int, Field(ge=1)] | None = None,
        max_money: Annotated[float, Field(gt=0)] | None = None,
        input_price: Annotated[float, Field(ge=0)] | None = None,
        output_price: Annotated[float, Field(ge=0)] | None = None,
    ) -> None:
        super().__init__(
            schema,
            url=url,
            model=model,
            key_variable=key_variable,
            columns=columns,
            temperature=temperature,
            reply_tokens=reply_tokens,
            extra=extra,
            concurrency=concurrency,
            timeout_seconds=timeout_seconds,
            retries=retries,
            backoff_seconds=backoff_seconds,
            max_tokens=max_tokens,
            max_money=max_money,
            input_price=input_price,
            output_price=output_price,
        )
        self.through, self.language = through, language

    def rewritten(self, texts: list[str], words: list[int]) -> list[str | None]:
        homes = [self.language or NAMES.get(language(text)) for text in texts]
        there = [self.through or (NAMES["zh"] if home == NAMES["en"] else NAMES["en"]) for home in homes]
        pairs = list(zip(texts, homes, there, strict=True))
        abroad = self.asked([None if home is None else PROMPT % other + text for text, home, other in pairs], words)
        return self.asked([None if text is None else PROMPT % home + text for text, home in zip(abroad, homes, strict=True)], words)

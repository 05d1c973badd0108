"""An OpenAI-compatible server: the body of a chat completion goes out, its answer comes in, tried again where a fault passes.

The standard library's HTTP follows no redirect and reads no proxy settings: the key goes to the host that was named and nowhere else.
"""

import json
import os
import re
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

import numpy as np
from pydantic import AfterValidator

from raysynth.draws import word
from raysynth.errors import RecipeError, StoppedError
from raysynth.layout import Facts

PASSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
LONGEST_PAUSE_SECONDS = 60.0
LONGEST_WISH_SECONDS = 600.0  # a server that asks for more patience (a day's quota) is not waited for
MOST_BYTES = 16 << 20
SAID_CHARACTERS = 200
CHARACTERS_A_TOKEN = 3  # where a server does not count: on the safe side for English
GONE_SECONDS = 30.0  # so long it is not asked again once it has not answered with all retries
MOST_REFUSED = 100  # prompts in a row: then it is the server, or what all calls have in common
MOST_STARTS = 200  # of objects that break off, in one text: each costs a look at all of it
SECRET_CHARACTERS = 8  # a shorter key is none: servers on one's own machine take any word, which texts may hold too

_escape = re.compile(r"\\+u([0-9a-fA-F]{4})")
_object = re.compile(r'\{\s*"')
_of_prompt = re.compile(
    r"content.?(filter|policy|exists.?risk)|context.?length|data.?inspection|invalid.?prompt|(input|prompt) was flagged",
    re.IGNORECASE,
)
"""How servers (OpenAI, Azure, vLLM, DeepSeek, DashScope) say that it is this prompt which they will not take."""
_of_schema = re.compile(r"response.?format|schema|grammar|structured", re.IGNORECASE)


class _PassingError(Exception):
    """It may pass. `after_seconds`: not before."""

    def __init__(self, reason: str, after_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.after_seconds = after_seconds


class _AnswerError(HTTPException):
    """An answer that came and cannot be used: what is wrong with it, in our own words."""


def _address(url: str) -> str:
    if not re.fullmatch("[!-~]+", url) or not _is_address(url):
        raise ValueError("must be http(s)://host[:port]/path in ASCII, without a user name, a password or a query")
    return url.rstrip("/")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")  # as sockets do: a part of it may be too long
        bare = "@" not in parts.netloc and not re.search("[?#]", url)
        return parts.scheme in ("http", "https") and bool(host) and parts.port != 0 and bare
    except ValueError:  # of the host or the port; its words would tell what stands there
        return False


def _variable(name: str) -> str:
    if not name.isidentifier():
        raise ValueError("must be the name of an environment variable, never the key itself")
    return name


Address = Annotated[str, AfterValidator(_address)]
Variable = Annotated[str, AfterValidator(_variable)]
ASIDE = frozenset(
    {"url", "key_variable", "concurrency", "timeout_seconds", "retries", "backoff_seconds"}
    | {"max_tokens", "max_money", "input_price", "output_price"}
)
"""Options of whoever asks a server that decide nothing of what is made."""


@dataclass(frozen=True)
class Budget:
    """What all calls together may cost; prices are of a million tokens. `of`: how errors name the options (`generator.`)."""

    of: str
    max_tokens: int | None
    max_money: float | None
    input_price: float | None
    output_price: float | None

    def __post_init__(self) -> None:
        if self.max_money is not None and (self.input_price is None or self.output_price is None):
            raise RecipeError(
                f"{self.of}max_money: {self.max_money:g} needs input_price and output_price, of a million tokens each"
            )

    def __str__(self) -> str:
        caps = {"max_tokens": self.max_tokens, "max_money": self.max_money}
        return ", ".join(f"{self.of}{name}: {cap:,}" for name, cap in caps.items() if cap is not None)

    def share(self, read: float, written: float) -> float:
        """Of the budget: from 1 on nothing is left. 0 where there is none."""
        shares = [0.0]
        if self.max_tokens is not None:
            shares.append((read + written) / self.max_tokens)
        if self.max_money is not None:
            shares.append((self.money(read, written) or 0.0) / self.max_money)
        return max(shares)

    def money(self, read: float, written: float) -> float | None:
        """What so many tokens cost; None where a price is not known."""
        if self.input_price is None or self.output_price is None:
            return None
        return (read * self.input_price + written * self.output_price) / 1e6


@dataclass(frozen=True)
class Foreseen:
    """What the calls for some rows say, in bytes, if each is answered well at once: prompts, schemas of the answers, and answers, of which
    none is longer than `most_tokens`. `budget`: what all calls together may cost."""

    rows: int
    calls: int
    asked_bytes: int
    schema_bytes: int
    answered_bytes: int
    most_tokens: int
    budget: Budget

    @staticmethod
    def of(bodies: Sequence[Facts], answers: Sequence[str], *, rows: int, most_tokens: int, budget: Budget) -> "Foreseen":
        """The bodies of the calls, and what stands in as answers."""
        asked = sum(len(message["content"].encode()) for body in bodies for message in body["messages"])
        schemas = [json.dumps(body["response_format"], ensure_ascii=False) for body in bodies if "response_format" in body]
        schema, answered = (sum(len(text.encode()) for text in texts) for texts in (schemas, answers))
        return Foreseen(rows, len(bodies), asked, schema, answered, most_tokens, budget)


@dataclass
class Chat:
    """One server. `of`: how errors name the options (`generator.`); `key_variable`: the environment variable that holds the key, which is in
    no message and is never pickled. Threads may share it; once it has given up it asks no more for a while."""

    of: str
    url: str
    key_variable: str
    timeout_seconds: float
    retries: int
    backoff_seconds: float
    gone: str = field(default="", init=False)
    gone_since: float = field(default=0.0, init=False)
    plain: bool = field(default=False, init=False)
    """Whether the server is known to know no schemas of answers."""
    knows_schemas: bool = field(default=False, init=False)
    answered: bool = field(default=False, init=False)
    refused: int = field(default=0, init=False)
    """Prompts since the last that was answered."""

    def complete(self, body: Facts, *, insist: bool = False, answered: bool = False) -> Facts:
        """The body of a chat completion → {answer: what came, read: about how many tokens went, where the server does not count}. Where it
        knows no schemas of answers it is asked without, unless `insist`. `answered`: such calls have been answered before, so that one
        which is refused is so for its prompt: then the answer holds no choices."""
        status, answer, body = self._asked(dict(body), insist)
        if status >= 300:
            return {"answer": self._refusal(status, answer, answered)}
        self.answered, self.refused = True, 0
        read = sum(len(message["content"].encode()) for message in body["messages"]) // CHARACTERS_A_TOKEN
        return {"answer": answer} | ({} if "usage" in answer else {"read": read})

    def _asked(self, body: Facts, insist: bool) -> tuple[int, Facts, Facts]:
        """The status, the answer, and the body that it answers, which has lost its schema where the server knows none."""
        if self.plain:
            body.pop("response_format", None)
        status, answer = self.ask(body)
        if "response_format" not in body:
            return status, answer, body
        self.knows_schemas |= status < 300
        of_schema = _blames(_of_schema, answer)
        if status < 300 or insist or _blames(_of_prompt, answer) or (self.knows_schemas and not of_schema):
            return status, answer, body
        del body["response_format"]
        status, answer = self.ask(body)
        if of_schema and not self.knows_schemas:  # else it may be another fault of this call alone, which has passed
            self.plain |= status < 300
        return status, answer, body

    def _refusal(self, status: int, answer: Facts, answered: bool) -> Facts:
        """What is kept of a prompt that the server will not take: it is no row, and whoever asks again has another prompt. RecipeError where
        it may be all calls that it will not take."""
        self.refused += 1
        if self.refused > MOST_REFUSED:
            raise RecipeError(
                f"{self.of}url: {self.url} refused {self.refused} prompts in a row, the last one by {status}{self._said(answer)}. Mend "
                f"{self.of}model, or what the prompts say"
            )
        if not (self.answered or answered or _blames(_of_prompt, answer)):
            raise RecipeError(
                f"{self.of}url: {self.url} answered {status}{self._said(answer)}. Mend {self.of}model, or take from the call what the "
                f"server does not know by {self.of}extra, such as {{seed: null}}"
            )
        return _no_row(f"status {status}{self._said(answer)}", *usage_of({"answer": answer}))

    def ask(self, body: Facts) -> tuple[int, Facts]:
        """The status, below 300 or one that says that this body will not do (400, 422), and the answer. RecipeError where the server refuses
        for good, StoppedError where it cannot be reached with all retries."""
        data = json.dumps(body, ensure_ascii=False).encode()
        began = time.monotonic()
        for attempt in range(self.retries + 1):
            if self.gone and self.gone_since > began - GONE_SECONDS:
                raise StoppedError(self.gone)
            try:
                return self._once(data)
            except _PassingError as fault:
                if attempt == self.retries or fault.after_seconds > LONGEST_WISH_SECONDS:
                    self.gone_since = time.monotonic()
                    self.gone = (
                        f"{self.of}url: {self.url} does not answer as it should ({fault}), asked {attempt + 1} times. Every reply "
                        "so far is kept: run the same command again to go on, once it answers"
                    )
                    raise StoppedError(self.gone) from None
                time.sleep(max(fault.after_seconds, self._pause(data, attempt)))
        raise AssertionError("unreachable")

    def _pause(self, data: bytes, attempt: int) -> float:
        """Twice as long each time, and of each request another part of it, so that they do not come back together."""
        share = 0.5 + float(word("pause", data, attempt) >> np.uint64(11)) * 2.0**-54
        return min(LONGEST_PAUSE_SECONDS, self.backoff_seconds * 2.0**attempt) * share

    def _once(self, data: bytes) -> tuple[int, Facts]:
        try:
            status, headers, found = self._post(data)
        except TimeoutError:
            raise _PassingError(f"no answer in {self.timeout_seconds:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise RecipeError(f"{self.of}url: {self.url}: its certificate is not valid ({error.verify_message})") from None
        except _AnswerError as error:
            raise _PassingError(str(error)) from None
        except (OSError, HTTPException) as error:
            raise _PassingError(
                type(error).__name__ + (f": {error.strerror}" if isinstance(error, OSError) and error.strerror else "")
            ) from None
        answer, after_seconds = _answer(found), _after_seconds(headers.get("retry-after"))
        if status in PASSES:
            raise _PassingError(f"status {status}{self._said(answer)}", after_seconds)
        if not 300 <= status < 400 and not _is_reply(answer) and _blames(_of_prompt, answer):
            return max(status, 400), answer  # some wrap an error into a 200
        if status < 300 and not _is_reply(answer):
            raise _PassingError(f"status {status} without choices{self._said(answer)}", after_seconds)
        if status in (401, 403):
            raise RecipeError(
                f"{self.of}key_variable: {self.url} answered {status} to the key in the variable {self.key_variable}. Set a valid one"
            )
        if status >= 300 and status not in (400, 413, 422):
            raise RecipeError(
                f"{self.of}url: {self.url} answered {status}{self._said(answer)}. Mend {self.of}url or {self.of}model"
            )
        told = found.decode(errors="replace") + json.dumps(answer, ensure_ascii=False)  # JSON may come as UTF-16
        if status >= 300 or not self._holds_key(told):
            return status, answer
        return status, _no_row("it held the key", *usage_of({"answer": answer, "read": len(data) // CHARACTERS_A_TOKEN}))

    def _post(self, data: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """TimeoutError once the whole call has taken its time, however slowly bytes still come."""
        ends = time.monotonic() + self.timeout_seconds
        parts = urlsplit(self.url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(cast("str", parts.hostname), parts.port, timeout=self.timeout_seconds)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := self._key:
            if not re.fullmatch("[!-~]+", key):
                raise RecipeError(
                    f"{self.of}key_variable: the variable {self.key_variable} holds a character that no key has. Set it again"
                )
            headers["Authorization"] = f"Bearer {key}"
        try:
            connection.request("POST", f"{parts.path.rstrip('/')}/chat/completions", data, headers)
            response = connection.getresponse()
            found = bytearray()
            while piece := response.read1(65_536):
                found += piece
                if time.monotonic() > ends:
                    raise TimeoutError
                if len(found) > MOST_BYTES:
                    raise _AnswerError(f"an answer of more than {MOST_BYTES >> 20} MiB, which no reply has")
            if response.length:
                raise _AnswerError("the answer was cut")
            return response.status, {name.lower(): value for name, value in response.getheaders()}, bytes(found)
        finally:
            connection.close()

    def _said(self, answer: Facts) -> str:
        """What the server gives as its reason, for a message: short, and without the key."""
        error: Any = answer.get("error", answer.get("detail", answer.get("message", "")))
        text = str(cast("Facts", error).get("message", "")) if isinstance(error, dict) else str(error)
        if self._key:
            text = text.replace(self._key, "…")
        text = "" if self._holds_key(text) else " ".join(text.split())[:SAID_CHARACTERS]
        return f": {text}" if text else ""

    @property
    def _key(self) -> str:
        return os.environ.get(self.key_variable, "").strip()

    def _holds_key(self, text: str) -> bool:
        """However its characters are escaped, in JSON or in JSON within it."""
        return len(self._key) >= SECRET_CHARACTERS and _unescaped(self._key) in _unescaped(text)


def _unescaped(text: str) -> str:
    """Without backslashes, and with the characters that they stood for: for comparison alone."""
    return _escape.sub(lambda match: chr(int(match[1], 16)), text).replace("\\", "")


def _answer(found: bytes) -> Facts:
    """What is no JSON object is kept as it is; so is one that could not be stored, which is no row, but paid for."""
    text: Facts = {"no_json": found.decode(errors="replace")[:10_000]}
    try:
        answer: Any = json.loads(found)
    except (ValueError, RecursionError):
        return text
    if not isinstance(answer, dict):
        return text
    try:
        json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()  # surrogates that stand alone have no bytes
    except (ValueError, RecursionError):
        return text | ({"choices": []} if _is_reply(cast("Facts", answer)) else {})
    return cast("Facts", answer)


def _is_reply(answer: Facts) -> bool:
    """Whether a model wrote, however badly, or tokens were counted: that is paid for, unlike a page that says that the server rests."""
    return isinstance(answer.get("choices"), list) or isinstance(answer.get("usage"), dict)


def _no_row(why: str, read: int, written: int) -> Facts:
    """What is kept of an answer of which nothing else may be, or is there: why, and what it cost."""
    return {"refused": why, "usage": {"prompt_tokens": read, "completion_tokens": written}}


def _blames(what: re.Pattern[str], answer: Facts) -> bool:
    """Whether the server's reason names it. What else stands there may repeat the prompt."""
    error: Any = answer.get("error", answer)
    names = ("code", "type", "message", "detail")
    told: list[Any] = [cast("Facts", error).get(name) for name in names] if isinstance(error, dict) else [error]
    return any(isinstance(text, str) and what.search(text) for text in told)


def _after_seconds(header: str | None) -> float:
    """Retry-After (RFC 9110, section 10.2.3): seconds or a date."""
    if header is None:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def content_of(answer: Facts) -> str:
    """What the model wrote; nothing where it did not, or refused."""
    try:
        return str(answer["choices"][0]["message"]["content"] or "")
    except (KeyError, IndexError, TypeError):
        return ""


def usage_of(reply: Facts) -> tuple[int, int]:
    """Of what `complete` gave: tokens read and written, as the server counts; else by the bytes of what was said."""
    usage: Any = reply["answer"].get("usage")
    counted: list[Any] = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(usage, dict) else []
    if len(counted) == 2 and all(isinstance(count, int) and 0 <= count < 1 << 53 for count in counted):
        return counted[0], counted[1]
    return reply.get("read", 0), -(-len(content_of(reply["answer"]).encode()) // CHARACTERS_A_TOKEN)


def objects_in(text: str) -> Iterator[Facts]:
    """The JSON objects in what a model wrote, such as drafts and then its answer, whatever stands around them. Where one breaks off the next
    is looked for, so that nothing is read twice."""
    end, broken = 0, 0
    while broken < MOST_STARTS and (start := _object.search(text, end)):
        try:
            found, end = json.JSONDecoder().raw_decode(text, start.start())
        except json.JSONDecodeError as error:
            end, broken = max(error.pos, start.start() + 1), broken + 1
        except (ValueError, RecursionError):  # it nests too deep, or has a number of thousands of digits
            return
        else:
            yield cast("Facts", found)


def schema_format(schema: Facts) -> Facts:
    """`response_format` of a call whose answer is JSON of this schema."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}

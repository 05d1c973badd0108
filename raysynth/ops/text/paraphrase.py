"""Texts → the same said in other words, by a language model that is asked over HTTP; the label stays."""

from raysynth.ops.text._rewriting import ANSWER, Rewriting

PROMPT = f"""Say the following text in other words. Keep what it means and how it feels, its language, all names and all numbers.
{ANSWER}

"""


class Paraphrase(Rewriting):
    """The real texts go to the server at `url`; its other options are those of the generator endpoint. An answer in another language, one
    that says the same word for word, and one that is much longer or shorter are none; a row that gets no other in three tries is left
    out."""

    def rewritten(self, texts: list[str], words: list[int]) -> list[str | None]:
        return self.asked([PROMPT + text for text in texts], words)

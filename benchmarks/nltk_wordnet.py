"""Debian's WordNet → a folder of data as NLTK reads it, for peers that would fetch it from the network.

WordNet's own files are copied. Two pieces are not in the package: `lexnames`, the table of lexicographer files (lexnames(5WN)), and a tagger
of parts of speech, which is trained here on a handful of sentences: it reads the same features of each word as NLTK's own, of fewer known
words, so that it takes no longer.
"""

import os
import shutil
from pathlib import Path

DEBIAN = "/usr/share/wordnet"
_POS = {"noun": 1, "verb": 2, "adj": 3, "adv": 4}
_NOUNS = "Tops act animal artifact attribute body cognition communication event feeling food group location motive object person"
_NOUNS += " phenomenon plant possession process quantity relation shape state substance time"
_VERBS = "body change cognition communication competition consumption contact creation emotion motion perception possession social"
_VERBS += " stative weather"
LEXNAMES = ["adj.all", "adj.pert", "adv.all", *(f"noun.{name}" for name in _NOUNS.split())]
LEXNAMES += [*(f"verb.{name}" for name in _VERBS.split()), "adj.ppl"]
TAGGED = [
    "the/DT quick/JJ brown/JJ fox/NN jumps/VBZ over/IN a/DT lazy/JJ dog/NN",
    "while/IN seven/CD wizards/NNS quietly/RB bake/VBP bread/NN near/IN old/JJ stone/NN bridges/NNS",
    "a/DT dog/NN jumps/VBZ quietly/RB while/IN old/JJ wizards/NNS bake/VBP brown/JJ bread/NN",
]


def wordnet_folder() -> Path | None:
    """Where WordNet's files are, with the index of senses that NLTK asks for; None where they are not installed."""
    folder = Path(os.environ.get("WNSEARCHDIR", DEBIAN))
    return folder if all((folder / name).is_file() for name in ("data.noun", "index.sense")) else None


def lay(wordnet: Path, folder: Path) -> None:
    """Makes `folder` all of NLTK's data."""
    import nltk
    from nltk.tag.perceptron import PerceptronTagger

    corpus = folder / "corpora" / "wordnet"
    corpus.mkdir(parents=True)
    for file in filter(Path.is_file, wordnet.iterdir()):  # Tk's resources lie beside, in a folder
        shutil.copy(file, corpus / file.name)
    lines = [f"{number:02d}\t{name}\t{_POS[name.split('.')[0]]}" for number, name in enumerate(LEXNAMES)]
    (corpus / "lexnames").write_text("\n".join(lines) + "\n")
    nltk.data.path[:] = [str(folder)]
    tagger = PerceptronTagger(load=False)
    tagger.train([[tuple(word.split("/")) for word in sentence.split()] for sentence in TAGGED])
    place = folder / "taggers" / "averaged_perceptron_tagger_eng"
    place.mkdir(parents=True)
    tagger.save_to_json("eng", str(place))

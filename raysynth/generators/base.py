"""Generator: a distribution over a layout. Three kinds: Trained (a network), Fitted (map and reduce), Remote (an endpoint)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from raysynth.chat import Foreseen
from raysynth.codecs.base import Stats
from raysynth.draws import Draws
from raysynth.knowledge import Knowledge
from raysynth.layout import Arrays, Batch, Facts, Given, Layout

TensorBatch = Mapping[str, Tensor]
"""A Batch's arrays on the device: rows are the first axis."""


class Generator(ABC):
    """Subclasses take their options as keyword arguments of the constructor, after `layout`."""

    accepts: ClassVar[tuple[type[Layout], ...]]
    version: ClassVar[int] = 1
    """Raised where the same options and rows make another model than they did: so that no run takes the old one for it."""
    kernel_rows: int = 4096
    """The most rows of one kernel call. Written into model.json, as `chunk_rows` is."""
    aside: ClassVar[frozenset[str]] = frozenset()
    """Options that decide no row (where a server is, how long it is waited for, what it may cost): they are in no id, and whoever samples
    takes them from the recipe of the moment."""
    probe_rows: int = 10_000
    """How many rows are drawn to see whether the rules can be met at all."""
    chunk_rows: int | None = None
    """Sample is only ever called with a multiple of so many draws (None: with kernel_rows draws), so that its bytes never depend on how
    many rows were asked for: a generator that names fewer evaluates them in chunks of one fixed shape."""

    @property
    def step_rows(self) -> int:
        """What the rows of every call are padded to a multiple of."""
        return self.chunk_rows or self.kernel_rows

    @abstractmethod
    def sample(self, draws: Draws, given: Given | None) -> Batch:
        """As many rows as draws, each a pure function of its own draws and of `given`."""

    @abstractmethod
    def state(self) -> tuple[Arrays, Facts]:
        """All that `load` needs: arrays for safetensors, facts for JSON."""

    @abstractmethod
    def load(self, arrays: Arrays, facts: Facts) -> None:
        """Become the generator whose state this is."""


class Choice(ABC):
    """Stands on the shelf for a generator that is settled before anything is trained: the stage `choose` tries `candidates` on some rows
    and puts one of them in its place. Options are keyword arguments, as a generator's are; there is no layout yet."""

    accepts: ClassVar[tuple[type[Layout], ...]]
    version: ClassVar[int] = 1
    """Raised where the same rows and options may lead to another choice than they did."""
    wants: tuple[str, ...]
    """Of fidelity, utility and privacy, most wanted first."""
    rows: int
    """Of the last trials, at most."""

    @abstractmethod
    def candidates(self) -> list[dict[str, Any]]:
        """{use, **options} of each."""


@dataclass(frozen=True)
class Pace:
    """How AdamW moves the parameters of one turn: at `share` of the learning rate, with these `betas`."""

    share: float = 1.0
    betas: tuple[float, float] = (0.9, 0.99)


class Trained(Generator, nn.Module):
    """Fitted by gradients in rounds of turns; the loop, the optimizers and the checkpoints are training.py's."""

    turns: tuple[str, ...] = ("model",)
    learning_rate: float = 2e-3
    """At its highest."""
    most_batch_rows: ClassVar[int] = 512
    """Of one worker: fewer where a row is large, so that many rows at a time save nothing, and each step teaches something."""
    average_decay: float = 0.995
    """Of the weights that are judged and published: so much of them is what they were a step before."""
    patience: int = 5
    """Epochs without a lower validation loss until training ends."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def begin(self) -> None:
        """Before training, on each of its workers: take up first weights that lie elsewhere."""

    @abstractmethod
    def players(self) -> dict[str, list[nn.Parameter]]:
        """Turn → the parameters that its optimizer moves."""

    def judged(self) -> dict[tuple[str, ...], str]:
        """Turns that are judged together → how the names of the weights begin that they move: of each group the best epoch is kept, and it
        learns no longer once it has had its patience. By default one group, of all turns and weights."""
        return {self.turns: ""}

    def pace(self, turn: str) -> Pace:
        """Of its optimizer."""
        return Pace()

    @abstractmethod
    def loss(self, batch: TensorBatch, turn: str, draws: Draws) -> Tensor:
        """Mean loss of the batch (a scalar). `draws` holds one row per batch row; names bear the step, as in `step-17`."""

    def calibrate(self, rows: Iterable[Batch]) -> None:
        """Once the best weights are loaded: settle what gradients do not, by validation rows. What it settles is in `state`'s facts."""

    def shards(self) -> list[nn.Module]:
        """The blocks of which several workers hold a share each (FSDP2), for a network that is too large for one; none: each holds it whole
        (DDP). `loss` must call such a block as a whole, and no parameter may be a scalar."""
        return []

    def state(self) -> tuple[Arrays, Facts]:
        return {name: value.detach().cpu().numpy() for name, value in self.state_dict().items()}, {}

    def load(self, arrays: Arrays, facts: Facts) -> None:
        self.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
        self.eval()


class Fitted(Generator):
    """Fitted by independent tasks over the encoded rows, whose results merge: trees, circuits, copulas."""

    libraries: ClassVar[tuple[str, ...]] = ("numpy",)
    """The packages whose versions decide what is learnt."""

    @abstractmethod
    def tasks(self) -> list[str]:
        """Names of the independent pieces of work, in the order in which their results are merged."""

    @abstractmethod
    def fit(self, task: str, rows: Iterable[Batch]) -> Stats:
        """One piece of work over the encoded train rows, which come in the feed's fixed order."""

    @abstractmethod
    def merge(self, stats: list[Stats]) -> None:
        """Become the generator that the tasks' results, in the order of `tasks`, make."""


class Remote(Generator):
    """Rows come as replies of a server; each reply is stored before it is read, so a resume repeats no call. A row is called for again only
    once its last reply has been turned down."""

    probe_rows = 400  # each is a call, and mostly one that is not made again: they are the first attempts of the first rows
    pool_rows: int = 0
    """How many encoded train rows `remember` is given, those whose row ids hash lowest."""
    concurrency: int = 1
    """Calls in flight at a time, of each worker."""
    budget: str = ""
    """What bounds the cost of all calls, as the recipe has it."""
    answered: bool = False
    """Whether such calls are known to have been answered, by whoever has their replies: what is then refused is one prompt."""
    replies: Callable[[list[Facts]], list[Facts]] | None = None
    """Requests → replies, in order; set by whoever samples in bulk (cluster/endpoint.py). Without it every call goes to the server."""

    def know(self, knowledge: Knowledge) -> None:
        """Keep what requests may tell of what is known beside the rows; called once, when the model is made."""

    def remember(self, rows: Batch) -> None:
        """Keep what requests say of real rows; called once, when the model is made."""

    @abstractmethod
    def request(self, draws: Draws, given: Given | None) -> list[Facts]:
        """One request per row, JSON. It bears what makes the row's own (a seed from its draws): equal requests get one reply."""

    @abstractmethod
    def send(self, request: Facts) -> Facts:
        """One call; threads may make several. StoppedError when the server does not answer in time; keys come from the environment."""

    @abstractmethod
    def parse(self, replies: list[Facts]) -> Batch:
        """Replies → rows; `accepted` is False where a reply is no valid row."""

    def foreseen(self, draws: Draws, given: Given | None, rows: Batch) -> Foreseen | None:
        """What the calls for as many rows say, if what comes back is these; None where nobody pays by what is said."""
        return None

    def usage(self, reply: Facts) -> tuple[int, int]:
        """Tokens that the call read and wrote, where they are counted."""
        return 0, 0

    def spent(self, read: float, written: float) -> float:
        """The share of its budget that so many tokens are: from 1 on nothing is left. 0 where there is no budget."""
        return 0.0

    def sample(self, draws: Draws, given: Given | None) -> Batch:
        requests = self.request(draws, given)
        return self.parse(self.replies(requests) if self.replies else [self.send(request) for request in requests])

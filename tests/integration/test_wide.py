"""A table of two thousand columns, the whole way without Ray: read, typed, cleaned, coded, drawn."""

from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysynth.cleaning import clean
from raysynth.codecs.tabular import Tabular
from raysynth.draws import Draws
from raysynth.generators.autoregressive import Autoregressive
from raysynth.layout import Fields
from raysynth.profile import Profile, infer_schema
from raysynth.sources.parquet import Parquet


def test_two_thousand_columns_are_coded_and_bounded_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({f"c{n}": pa.array(np.arange(40) * n % 5) for n in range(2000)}), path)
    source = Parquet(str(path))
    [(table, _)] = [found for shard in source.shards(source.files()) for found in source.read(shard)]
    schema = infer_schema(Profile.observe(table))
    rows, bad = clean(table, schema)
    assert not bad
    codec = Tabular(schema, seed=7)
    codec.settle(codec.observe(rows))
    batch = codec.encode(rows)
    back = codec.decode(batch, Draws.range(7, "decode", 0, 40))
    assert back.equals(rows.select(schema.names).cast(back.schema))
    generator = Autoregressive(cast(Fields, codec.layout))
    assert generator.read.numel() <= 1 << 26
    drawn = codec.decode(generator.sample(Draws.range(7, "generate", 0, 4), None), Draws.range(7, "generate", 0, 4))
    assert drawn.shape == (4, 2000)

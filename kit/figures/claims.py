"""All claims at a glance: one picture of the verdict tables that the notebooks have drawn."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from kit.figures.manifest import Manifest, entry_of, fingerprint
from kit.paper.claims import NUMBERS

NAME = "claims"  # of the picture, and of its entry in the manifest
TABLES = {
    "table1_verdicts.csv": "Table 1",
    "table2_verdicts.csv": "Table 2",
    "table3_verdicts.csv": "Table 3",
    "table4_verdicts.csv": "Table 4",
    "table4_pairs.csv": "Table 4, pairs",
    "fig2_verdicts.csv": "Figure 2",
    "table5_verdicts.csv": "Table 5",
    "table6_verdicts.csv": "Table 6",
}


def draw_claims(manifest: Manifest, scratch: Path) -> str | None:
    """Draws every verdict that stands beside the manifest; returns the picture's name, None where it is up to date.

    Tables that are not as they were drawn are left out, and those that other versions have written, without the numbers
    that are drawn.
    """
    artefacts = manifest.content["artefacts"]
    there = [file for file in TABLES if manifest.has(file)]
    inputs = fingerprint(Path(__file__), {file: artefacts[file]["sha256"] for file in there}, [])
    if manifest.is_current(NAME, inputs):
        return None
    tables = {TABLES[file]: pd.read_csv(manifest.out / file) for file in there}
    tables = {title: table for title, table in tables.items() if {*NUMBERS, "claim", "against"} <= set(table)}
    if not tables:
        return None
    from kit.show import claims_at_a_glance, save  # draws by matplotlib, which takes a second to import

    drawn = [manifest.content["notebooks"][artefacts[file]["notebook"]]["parameters"] for file in there]
    presets = {str(of.get("preset")) for of in drawn}
    whose = {"students of the same teachers" if of.get("one_teacher") else "teachers and students" for of in drawn}
    firsts = sorted({of.get("first_seed", 0) for of in drawn})
    seeds = sorted({int(n) for table in tables.values() for n in table["n"] if n})
    counted = f"{' or '.join(map(str, seeds or [0]))} seed{'' if seeds == [1] else 's'} of {' or '.join(sorted(whose))}"
    begun = "" if firsts == [0] else f", from seed {' or '.join(map(str, firsts))}"
    caption = f"preset {', '.join(sorted(presets))} · {counted}{begun}"
    save(claims_at_a_glance(tables, caption), NAME, scratch)
    manifest.take(NAME, entry_of(inputs, {}, [], {}), scratch)
    return f"{NAME}.png"

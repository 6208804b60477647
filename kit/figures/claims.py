"""All claims at a glance: one picture of the verdict tables that the notebooks have drawn."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from kit.figures.manifest import Manifest, entry_of, fingerprint
from kit.paper.claims import NUMBERS
from kit.show import claims_at_a_glance, save

NAME = "claims"  # of the picture, and of its entry in the manifest
TABLES = {
    "table1_verdicts.csv": "Table 1",
    "table2_verdicts.csv": "Table 2",
    "table3_verdicts.csv": "Table 3",
    "table4_verdicts.csv": "Table 4",
    "table4_pairs.csv": "Table 4, pairs",
    "fig2_verdicts.csv": "Figure 2",
}


def draw_claims(manifest: Manifest, scratch: Path) -> str | None:
    """Draws every verdict that stands beside the manifest; returns the picture's name, None where it is up to date.

    Tables that other versions have written, without the numbers that are drawn, are left out.
    """
    artefacts = manifest.content["artefacts"]
    inputs = fingerprint(Path(__file__), {file: artefacts[file]["sha256"] for file in TABLES if file in artefacts}, [])
    if manifest.is_current(NAME, inputs):
        return None
    tables = {title: pd.read_csv(manifest.out / file) for file, title in TABLES.items() if file in artefacts}
    tables = {title: table for title, table in tables.items() if {*NUMBERS, "claim", "against"} <= set(table)}
    if not tables:
        return None
    of = {artefacts[file]["notebook"] for file in TABLES if file in artefacts}
    presets = {str(manifest.content["notebooks"][notebook]["parameters"].get("preset")) for notebook in of}
    seeds = sorted({int(n) for table in tables.values() for n in table["n"] if n})
    caption = f"preset {', '.join(sorted(presets))} · {' or '.join(map(str, seeds))} seeds of teachers and students"
    save(claims_at_a_glance(tables, caption), NAME, scratch)
    manifest.take(NAME, entry_of(inputs, {}, [], {}), scratch)
    return f"{NAME}.png"

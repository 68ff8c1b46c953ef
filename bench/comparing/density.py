# SPDX-License-Identifier: Apache-2.0
"""Results of bench/dedup as JSON, Markdown tables and an SVG plot of the bytes stored."""
import json

from .report import median


def cost(entry, kind, field):
    return median([c[field] for c in entry[kind]])


def row(name, entry, corpus, best):
    restore = cost(entry, "restore", "wall_seconds")
    return (f"| {name} | {entry['bytes'] / 1e6:.1f} | {entry['bytes'] / best:.2f} | "
            f"{cost(entry, 'store', 'cpu_seconds'):.1f} | "
            f"{cost(entry, 'store', 'wall_seconds'):.1f} | "
            f"{cost(entry, 'store', 'peak_bytes') / 1e6:.0f} | "
            f"{cost(entry, 'restore', 'cpu_seconds'):.1f} | {restore:.1f} | "
            f"{corpus['bytes'] / 1e6 / restore:.0f} |")


def losses(results):
    out = []
    for name, entries in results["results"].items():
        ours = entries.get("layerfs")
        for peer, entry in entries.items() if ours else ():
            if peer.startswith("layerfs"):
                continue
            for what, value in (("bytes", lambda e: e["bytes"]),
                                ("CPU to store", lambda e: cost(e, "store", "cpu_seconds")),
                                ("time to restore", lambda e: cost(e, "restore", "wall_seconds"))):
                if value(ours) > value(entry):
                    out.append(f"- {name}, {what}: {value(ours) / value(entry):.2f} × {peer}")
    return out


def markdown(results):
    out = ["# Storage", "", results["machine"], ""]
    out += [f"- {name}: {described}" for name, described in results["peers"].items()]
    rounds = [len(e["store"]) for es in results["results"].values() for e in es.values()]
    out += ["", f"Medians of {min(rounds, default=0)} to {max(rounds, default=0)} rounds. "
            "MB are 10^6 bytes."]
    for name, corpus in results["corpora"].items():
        entries = results["results"].get(name, {})
        out += ["", f"## {name}: {corpus['title']}, {corpus['bytes'] / 1e6:.0f} MB", "",
                "| | MB stored | of the smallest | CPU s | wall s | peak MB | restore CPU s | "
                "wall s | MB/s |", "|---|---|---|---|---|---|---|---|---|"]
        best = min((e["bytes"] for e in entries.values()), default=1)
        out += [row(peer, entries[peer], corpus, best) for peer in results["peers"]
                if peer in entries]
        out += ["", "Deduplication alone, before compression: "
                + ", ".join(f"{kind} {size / 1e6:.0f} MB" for kind, size in corpus["limits"].items())]
    out += ["", "## Where layerfs loses", ""] + (losses(results) or ["- nowhere"])
    return "\n".join(out) + "\n"


def svg(results):
    """Bars: bytes stored, of the corpus's own."""
    bars = [(name, peer, entry["bytes"], corpus["bytes"]) for name, corpus in
            results["corpora"].items() for peer, entry in results["results"].get(name, {}).items()]
    left, width, height = 200, 600, 16
    widest = max((stored / raw for _, _, stored, raw in bars), default=1)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 120}" '
           f'height="{height * len(bars) + 20}" font-family="sans-serif" font-size="11">',
           '<rect width="100%" height="100%" fill="white"/>']
    for i, (name, peer, stored, raw) in enumerate(bars):
        y, length = 10 + height * i, width * stored / raw / widest
        colour = "#4477aa" if peer.startswith("layerfs") else "#bbbbbb"
        out.append(f'<text x="4" y="{y + 11}">{name} {peer}</text><rect x="{left}" y="{y}" '
                   f'width="{length:.1f}" height="12" fill="{colour}"/><text '
                   f'x="{left + length + 4:.1f}" y="{y + 11}">{stored / 1e6:.1f} MB</text>')
    return "\n".join(out) + "\n</svg>\n"


def write(results, directory):
    (directory / "dedup.json").write_text(json.dumps(results, indent=1) + "\n")
    (directory / "dedup.md").write_text(markdown(results))
    (directory / "dedup.svg").write_text(svg(results))

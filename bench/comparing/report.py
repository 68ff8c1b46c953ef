# SPDX-License-Identifier: Apache-2.0
"""Results as JSON, a Markdown table and an SVG plot: medians, spread, ratios, losses in sight."""
import json
import math
import statistics

# What layerfs is meant to reach: (beginning of the work's name, peer, at most this ratio to it).
TARGETS = [
    ("find -ls warm", "native", 1.3), ("tar of everything warm", "native", 1.3),
    ("start python3 warm", "native", 1.2), ("start java warm", "native", 1.2),
    ("start node warm", "native", 1.2), ("gcc hello.c warm", "native", 1.2),
    ("find -ls cold", "overlayfs", 1.0), ("tar of everything cold", "overlayfs", 0.8),
    ("grep -r python3 cold", "overlayfs", 1.1), ("start python3 cold", "overlayfs", 1.1),
    ("start java cold", "overlayfs", 1.1), ("start node cold", "overlayfs", 1.1),
    ("gcc hello.c cold", "overlayfs", 1.1), ("untar base", "overlayfs", 1.0),
    ("create 10,000", "overlayfs", 1.1), ("rm -r lower", "overlayfs", 0.8),
    ("write 1 GiB by 1 MiB", "overlayfs", 1.1), ("write 1 GiB by 4 KiB", "overlayfs", 1.3),
    ("one byte in 1 GiB lower", "overlayfs", 0.02), ("git clone", "overlayfs", 1.15),
    ("git status", "overlayfs", 1.15), ("npm install", "overlayfs", 1.15),
    ("make -j2", "overlayfs", 1.15), ("dpkg -i", "overlayfs", 1.15),
    ("sqlite inserts", "overlayfs", 1.2)]


def median(values):
    return statistics.median(values)


def spread(values):
    """(max - min) / median, in percent."""
    return round(100 * (max(values) - min(values)) / median(values))


def cell(results, work, peer, against):
    times = results["times"].get(work, {}).get(peer)
    if not times:
        return "-"
    text = f"{median(times):.3f} s ±{spread(times) // 2}%"
    base = results["times"][work].get(against)
    if base and peer != against:
        text += f" ({median(times) / median(base):.2f})"
    return text


def ratio(results, work, peer, against):
    times = results["times"].get(work, {})
    if not times.get(peer) or not times.get(against):
        return None
    return median(times[peer]) / median(times[against])


def targets(results):
    out = ["## Targets", "", "| work | against | at most | measured | against fuse-overlayfs |",
           "|---|---|---|---|---|"]
    for work, peer, bound in TARGETS:
        measured = ratio(results, work, "layerfs", peer)
        other = ratio(results, work, "layerfs", "fuse-overlayfs")
        if measured is None:
            continue
        verdict = "" if measured <= bound else " **missed**"
        out.append(f"| {work} | {peer} | {bound:g} | {measured:.2f}{verdict} | "
                   + (f"{other:.2f}" if other else "-") + " |")
    return out + [""]


def values(results):
    if not results["values"]:
        return []
    peers = results["peers"]
    out = ["## Other figures (medians)", "", "| | " + " | ".join(peers) + " |",
           "|---|" + "---|" * len(peers)]
    for name, by_peer in results["values"].items():
        out.append(f"| {name} | " + " | ".join(
            f"{median(by_peer[p]):.2f}" if by_peer.get(p) else "-" for p in peers) + " |")
    return out + [""]


def messages(results):
    if not results["messages"]:
        return []
    out = ["## What layerfs did", "",
           "| work | messages | most frequent | CPU s | peak MB | MB served | decompressed per byte "
           "served | read from disk per byte served |", "|---|---|---|---|---|---|---|---|"]
    for work, m in results["messages"].items():
        frequent = ", ".join(f"{k} {v}" for k, v in m["opcodes"][:4])
        served = m.get("read_bytes", 0)
        per_byte = [f"{m.get(k, 0) / served:.2f}" if served > 1 << 20 else "-"
                    for k in ("decompressed_bytes", "compressed_read_bytes")]
        out.append(f"| {work} | {m['total']} | {frequent} | {m['cpu_seconds']:.2f} | "
                   f"{m['peak_rss_bytes'] / 1e6:.0f} | {served / 1e6:.0f} | "
                   + " | ".join(per_byte) + " |")
    return out + [""]


def markdown(results):
    peers = results["peers"]
    rounds = [len(v) for times in results["times"].values() for v in times.values()]
    out = ["# Comparison", "", results["machine"], ""]
    out += [f"- {p}: {results['versions'].get(p, '')} {results['options'].get(p, '')}".rstrip()
            for p in peers]
    out += ["", f"Medians of {min(rounds)} to {max(rounds)} interleaved rounds, half the spread, and in "
            "brackets the ratio to native.", "", "| work | " + " | ".join(peers) + " |",
            "|---|" + "---|" * len(peers)]
    for work in results["times"]:
        out.append(f"| {work} | " + " | ".join(cell(results, work, p, "native") for p in peers) + " |")
    losses = [(w, p, r) for w in results["times"] for p in ("overlayfs", "fuse-overlayfs")
              if (r := ratio(results, w, "layerfs", p)) and r > 1]
    out += ["", "## Where layerfs is slower", ""]
    out += [f"- {w}: {r:.2f} × {p}" for w, p, r in sorted(losses, key=lambda l: -l[2])]
    out += [] if losses else ["- nowhere"]
    out += [""] + targets(results) + values(results) + messages(results)
    return "\n".join(out) + "\n"


def svg(results):
    """Bars of the ratio to native per work, log2 scale from 1/4 to 16."""
    peers = [p for p in results["peers"] if p != "native"]
    colours = dict(zip(peers, ["#4477aa", "#cc6677", "#228833", "#ccbb44", "#66ccee"]))
    row, left, width = 12 * len(peers) + 10, 200, 600
    place = lambda r: left + width * (math.log2(min(max(r, 0.25), 16)) + 2) / 6
    height = row * len(results["times"]) + 60
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 70}" height="{height}" '
           'font-family="sans-serif" font-size="11">', '<rect width="100%" height="100%" fill="white"/>']
    for i, p in enumerate(peers):
        out.append(f'<rect x="{left + 120 * i}" y="8" width="10" height="10" fill="{colours[p]}"/>'
                   f'<text x="{left + 120 * i + 14}" y="17">{p}</text>')
    for tick in (0.25, 0.5, 1, 2, 4, 8, 16):
        out.append(f'<line x1="{place(tick)}" x2="{place(tick)}" y1="40" y2="{height}" '
                   f'stroke="{"#000" if tick == 1 else "#ddd"}"/>'
                   f'<text x="{place(tick) - 8}" y="36">{tick:g}×</text>')
    for i, work in enumerate(results["times"]):
        y = 46 + row * i
        out.append(f'<text x="4" y="{y + row / 2}">{work}</text>')
        for j, p in enumerate(peers):
            r = ratio(results, work, p, "native")
            if r:
                a, b = sorted((place(1), place(r)))
                out.append(f'<rect x="{a}" y="{y + 12 * j}" width="{max(b - a, 1)}" height="10" '
                           f'fill="{colours[p]}"><title>{work}, {p}: {r:.2f}</title></rect>')
    return "\n".join(out) + "\n</svg>\n"


def write(results, directory):
    (directory / "compare.json").write_text(json.dumps(results, indent=1) + "\n")
    (directory / "compare.md").write_text(markdown(results))
    (directory / "compare.svg").write_text(svg(results))

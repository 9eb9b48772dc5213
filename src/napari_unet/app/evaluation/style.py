"""How the report looks: one style sheet for light and dark screens and for paper."""

from __future__ import annotations

CSS = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1b1f24; --soft: #5b6570; --faint: #d5dae0; --panel: #f5f7f9;
  --accent: #1f6fa8; --good: #1d7f55; --bad: #b3541e; --cell: 31, 111, 168;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --ink: #e4e8ec; --soft: #9aa5b1; --faint: #333b44; --panel: #1d2228;
    --accent: #6bb4e8; --good: #5cc79a; --bad: #eb9a61; --cell: 107, 180, 232;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 72rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 {
  font-size: 1.2rem; margin: 2.8rem 0 .8rem; padding-top: .8rem;
  border-top: 1px solid var(--faint);
}
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
.soft { color: var(--soft); }
.cards {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .8rem;
  margin-top: 1.4rem;
}
.card { background: var(--panel); border-radius: 10px; padding: .9rem 1.1rem; }
.card b {
  display: block; font-size: 1.9rem; font-weight: 600; font-variant-numeric: tabular-nums;
}
.card .soft { font-size: .85rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .9rem 0 .3rem; }
th, td {
  padding: .32rem .7rem .32rem 0; text-align: left; vertical-align: middle;
  border-bottom: 1px solid var(--faint);
}
th { font-weight: 600; } thead th { color: var(--soft); font-size: .85rem; }
td.n, th.n { text-align: right; }
td.n, td:first-child { white-space: nowrap; }
td.wrap { white-space: normal !important; }
thead th { vertical-align: bottom; }
td.bar { width: 30%; }
.scroll { overflow-x: auto; }
.bar svg { display: block; width: 100%; height: 14px; }
.families { columns: 2 27rem; column-gap: 2.4rem; }
.families > div { break-inside: avoid; margin-bottom: .8rem; }
.figures {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(24rem, 1fr)); gap: 1.2rem;
}
figure {
  margin: 0; background: var(--panel); border-radius: 10px; padding: .8rem;
  break-inside: avoid;
}
figure svg { width: 100%; height: auto; display: block; }
figure svg text {
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif !important;
}
figcaption { font-size: .85rem; color: var(--soft); margin-top: .5rem; overflow-wrap: anywhere; }
figcaption b { color: var(--ink); }
.crops {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); gap: 1.2rem;
  align-items: start;
}
.crops img {
  width: 100%; display: block; border-radius: 5px; image-rendering: pixelated;
  background: #000;
}
.key {
  display: inline-flex; align-items: center; gap: .4rem; margin-right: 1.2rem;
  font-size: .9rem;
}
.key i { width: 1rem; height: 1rem; border-radius: 3px; display: inline-block; }
.matrix td, .matrix th { text-align: right; padding: .5rem .8rem; border: 0; }
.matrix { width: auto; }
.matrix td small { display: block; opacity: .8; }
.yes { color: var(--good); } .no { color: var(--bad); }
details > summary { cursor: pointer; color: var(--accent); margin: .6rem 0; }
code {
  font: .85rem/1.4 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  overflow-wrap: anywhere;
}
ul { padding-left: 1.2rem; max-width: 46rem; }
figure.wide { max-width: 46rem; margin-bottom: 1rem; }
@media print {
  body { max-width: none; padding: 0; font-size: 11px; }
  h2 { break-after: avoid; } tr, .card { break-inside: avoid; }
  details > :not(summary) { display: block; }
}
"""
"""Of the page. Nothing in it is fetched from anywhere."""

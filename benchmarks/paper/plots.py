"""The plots of the paper's figures, by matplotlib."""

import pathlib

import numpy as np


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def lines(path: pathlib.Path, curves, x_label: str, y_labels, *, log_x=False, log_first=False) -> str:
    """Curves {name: [(x, (value, low, high) or None, …)]}, a panel for each value after x. Returns the file's name."""
    plt = _pyplot()
    figure, axes = plt.subplots(1, len(y_labels), figsize=(5.6 * len(y_labels), 4.4), squeeze=False)
    colors = [f"C{index}" for index in range(10)]
    for panel, (axis, label) in enumerate(zip(axes[0], y_labels), 1):
        for index, (name, points) in enumerate(curves.items()):
            there = [(point[0], *point[panel]) for point in points if point[panel] is not None]
            if not there:
                continue
            x, y, low, high = np.array(there, float).T
            color = colors[index % len(colors)]
            axis.plot(x, y, marker="o", markersize=3, color=color, label=name)
            axis.fill_between(x, low, high, color=color, alpha=0.12, linewidth=0)
        axis.set(xlabel=x_label, ylabel=label)
        axis.grid(alpha=0.3)
        if log_x:
            axis.set_xscale("log", base=2)
        if log_first and panel == 1:
            axis.set_yscale("log")
    axes[0][0].legend(fontsize=7)
    return _save(plt, figure, path)


def maps(path: pathlib.Path, grids, ticks, x_label: str, y_label: str) -> str:
    """Maps {title: [row][column]} with the values in their cells. Returns the file's name."""
    plt = _pyplot()
    figure, axes = plt.subplots(1, len(grids), figsize=(4.2 * len(grids), 3.8), squeeze=False)
    for axis, (title, grid) in zip(axes[0], grids.items()):
        values = np.array(grid, float)
        axis.imshow(values, origin="lower", cmap="viridis", aspect="auto")
        middle = (values.min() + values.max()) / 2
        for (i, j), value in np.ndenumerate(values):
            shade = "black" if value > middle else "white"
            axis.text(j, i, f"{value:.3g}", ha="center", va="center", fontsize=7, color=shade)
        axis.set_xticks(range(len(ticks)), [f"{x:g}" for x in ticks])
        axis.set_yticks(range(len(ticks)), [f"{x:g}" for x in ticks])
        axis.set(title=title, xlabel=x_label, ylabel=y_label)
    return _save(plt, figure, path)


def scatter(path: pathlib.Path, points, x_label: str, y_labels) -> str:
    """Named points {name: (x, y, …)}, one panel for each y. Returns the file's name."""
    plt = _pyplot()
    figure, axes = plt.subplots(1, len(y_labels), figsize=(5.0 * len(y_labels), 4.2), squeeze=False)
    for panel, (axis, label) in enumerate(zip(axes[0], y_labels), 1):
        for name, values in points.items():
            axis.plot(values[0], values[panel], "o", color="#0072b2", markersize=4)
            axis.annotate(name, (values[0], values[panel]), fontsize=6, xytext=(3, 3), textcoords="offset points")
        axis.set(xlabel=x_label, ylabel=label, yscale="log")
        axis.grid(alpha=0.3)
    return _save(plt, figure, path)


def _save(plt, figure, path):
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path.name

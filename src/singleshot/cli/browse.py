"""``singleshot browse``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from singleshot.cli.console import open_console, print_note, shown, split_names
from singleshot.cli.shared_options import FormatOption
from singleshot.core.wording import counted, printable

if TYPE_CHECKING:
    from singleshot.browsing.second_opinion import SecondOpinion
    from singleshot.browsing.web import BrowseServer


def browse(
    data: Annotated[Path, typer.Argument(help="Folder, COCO or LabelMe .json, YOLO .yaml, .csv or .rec.")],
    model: Annotated[
        str | None,
        typer.Option(help="A detector to compare with: its boxes beside the labels, and the likeliest mistakes."),
    ] = None,
    decisions: Annotated[
        Path | None,
        typer.Option(help="The file for decisions, new or to go on with.", show_default="DATA-decisions.json"),
    ] = None,
    format: FormatOption = "auto",
    classes: Annotated[
        list[str] | None, typer.Option(help="Show only these classes of the data: person,dog; repeatable.")
    ] = None,
    score: Annotated[float, typer.Option(help="Least score of a detection, 0..1.")] = 0.05,
    device: Annotated[str, typer.Option(help="Where the model runs: auto, cpu, cuda, cuda:1 ...")] = "auto",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 takes a free one.")] = 0,
    open_page: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in the browser, or only print its address.")
    ] = True,
) -> None:
    """Leaf through labelled images on a page of this machine, and decide what to leave out or to relabel.

    Examples:

    * `singleshot browse photos`
    * `singleshot browse photos --model runs/photos/best.safetensors`
    * `singleshot train photos --decisions photos-decisions.json`

    Labels stay as they are: decisions go to a file of their own, which train, eval, data check and data convert take.
    """
    from singleshot.browsing.collection import open_collection
    from singleshot.browsing.decision_book import DecisionBook, default_file
    from singleshot.browsing.second_opinion import open_second_opinion
    from singleshot.browsing.web import open_server

    console = open_console()
    with open_console(stderr=True).status("Reading the labels ..."):
        collection = open_collection(data, format, split_names(classes))
    book = DecisionBook(decisions or default_file(data), collection)
    opinion = None
    if model is not None:
        opinion = open_second_opinion(
            model, collection, score, device=device, say=lambda line: print_note(console, line)
        )
    for note in collection.dataset.notes:
        print_note(console, printable(note))
    server = open_server(collection, book, opinion, port)
    console.print(
        f"{shown(collection.dataset.path)}: {counted(len(collection), 'image')}, "
        f"{counted(len(collection.truth), 'object')}; decisions: {shown(book.file)}"
        + (f" ({counted(len(book), 'decision')} so far)" if len(book) else ""),
        soft_wrap=True,
    )
    if book.strangers:
        gone = counted(len(book.strangers), "decision")
        print_note(console, f"{gone} in this file about images or boxes that are not there: they stay in it, unseen")
    typer.echo(f"Page: {server.address}  (Ctrl-C ends)")
    if open_page:
        import webbrowser

        webbrowser.open(server.address)
    _serve(server, opinion)
    counts = ", ".join(f"{count} {action}" for action, count in book.counts().items() if count)
    typer.echo(f"{shown(book.file)}: {counts}" if counts else "No decisions.")


def _serve(server: BrowseServer, opinion: SecondOpinion | None) -> None:
    """Until Ctrl-C."""
    if opinion:
        opinion.start()
    try:
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
        if opinion:
            opinion.close()

"""One exhibit as HTML that can stand in any page: everything escaped, pictures inside, colours by variables of the page."""

from __future__ import annotations

import base64

from markupsafe import Markup

from acclimate.core.legible import legible
from acclimate.tasks.draw import LINES
from acclimate.tasks.exhibit import Exhibit, Passages, Picture, Piece

LEAST = 0.15
"""Weights nearer to 0 than this are not marked: a text in which everything is marked says nothing."""
COVER = 0.5
"""How much of a colour the strongest weight gets: letters stay legible on it, on light and on dark pages."""
PLAIN = "\t\n"
"""Of the characters that control something, those that a page may hold."""
LINES_CSS = "\n".join(
    f".exhibit .{kind}::before {{ border: 3px {line.style} rgb{line.colour} }}" for kind, line in LINES.items()
)
KEYS = ", ".join(f".exhibit .{kind}::before" for kind in LINES)
CSS = f"""\
.exhibit {{ margin: 0; min-width: 0; overflow-wrap: anywhere }}
.exhibit .pair {{ display: flex; gap: 2px }}
.exhibit img {{ display: block; flex: 1 1 0; min-width: 0; width: 100%; height: auto }}
.exhibit figcaption {{ font-size: .85rem; line-height: 1.35; margin-top: .3rem }}
.exhibit .name {{ font-size: .75rem }}
.exhibit .text {{ margin: 0 0 .4rem; line-height: 1.7; white-space: pre-line }}
.exhibit mark {{ color: inherit; border-radius: .2em; padding: .05em .1em; border-bottom: 2px solid }}
.exhibit .for {{ background: rgb(var(--pos, 31 95 153) / var(--much)); border-color: rgb(var(--pos, 31 95 153)) }}
.exhibit .against {{ background: rgb(var(--neg, 179 84 30) / var(--much)); border-color: rgb(var(--neg, 179 84 30)) }}
.exhibit .against {{ border-bottom-style: dotted }}
.exhibit .unread {{ opacity: .65; font-style: italic }}
.exhibit ul {{ list-style: none; margin: .2rem 0 0; padding: 0 }}
{KEYS} {{ content: ""; display: inline-block; width: 1em; height: .7em; margin: 0 .5em 0 1px; outline: 1px solid #101010;
  box-shadow: inset 0 0 0 1px #101010 }}
{LINES_CSS}
@media print {{ .exhibit mark, .exhibit li::before {{ print-color-adjust: exact }} }}
"""
"""What a page of exhibits needs in its style sheet. `--pos` and `--neg`, "red green blue", are the page's colours of for and against."""


def html(exhibit: Exhibit) -> Markup:
    """A <figure class="exhibit">: the sample, and a caption that says the same in words. Needs `CSS`."""
    return Markup('<figure class="exhibit{mood}">{shown}<figcaption>{words}</figcaption></figure>').format(
        mood={True: " right", False: " mistaken", None: ""}[exhibit.right],
        shown=_shown(exhibit),
        words=_words(exhibit),
    )


def safe(text: str) -> str:
    """As a page may hold it."""
    return legible(text, PLAIN)


def _shown(exhibit: Exhibit) -> Markup:
    if isinstance(exhibit.shown, Picture):
        return _picture(exhibit.shown, exhibit)
    if isinstance(exhibit.shown, Passages):
        weighed = exhibit.shown.weighed
        return Markup().join(_passage(text, weighed) for text in exhibit.shown.texts)
    return Markup("<p>the sample cannot be read any more</p>")


def _picture(picture: Picture, exhibit: Exhibit) -> Markup:
    alt = safe(f"{exhibit.name}, {_was(exhibit)}")
    if picture.overlay is None:
        return _image(picture.content, picture, alt)
    lit = _image(picture.overlay, picture, f"the same, lit where it speaks for {safe(exhibit.answer)}")
    return Markup('<div class="pair">{}{}</div>').format(_image(picture.content, picture, alt), lit)


def _image(content: bytes, picture: Picture, alt: str) -> Markup:
    return Markup(
        '<img src="data:image/webp;base64,{}" width="{}" height="{}" alt="{}" loading="lazy" decoding="async">'
    ).format(base64.b64encode(content).decode(), picture.width, picture.height, alt)


def _passage(text: tuple[Piece, ...], weighed: bool) -> Markup:
    return Markup('<p class="text" dir="auto">{}</p>').format(Markup().join(_piece(*piece, weighed) for piece in text))


def _piece(text: str, weight: float | None, weighed: bool) -> Markup:
    if weight is None and weighed and text.strip("… \n"):
        return Markup('<span class="unread">{}</span>').format(safe(text))
    if weight is None or abs(weight) < LEAST:
        return Markup("{}").format(safe(text))
    return Markup('<mark class="{}" style="--much:{}">{}</mark>').format(
        "for" if weight > 0 else "against", round(COVER * abs(weight), 2), safe(text)
    )


def _words(exhibit: Exhibit) -> Markup:
    sure = "" if exhibit.sure is None else f", {exhibit.sure:.0%} sure"
    lines = [Markup('<span class="name"><bdi>{}</bdi></span>').format(safe(exhibit.name))]
    lines.append(Markup("{}{}").format(_told(exhibit), sure))
    if isinstance(exhibit.shown, Passages) and (strongest := exhibit.shown.strongest()):
        listed = Markup(", ").join(Markup("<bdi>{}</bdi>").format(safe(one)) for one in strongest)
        lines.append(Markup("rests most on {}").format(listed))
    found = Markup("<br>").join(lines)
    notes = Markup().join(
        Markup('<li class="{0}">{0}: <bdi>{1}</bdi></li>').format(kind, safe(what)) for kind, what in exhibit.notes
    )
    return found + Markup("<ul>{}</ul>").format(notes) if notes else found


def _told(exhibit: Exhibit) -> Markup:
    answer = Markup("<b><bdi>{}</bdi></b>").format(safe(exhibit.answer))
    if exhibit.truth is None:
        return Markup("answered {}").format(answer)
    if exhibit.right:
        return Markup("{}, as labelled").format(answer)
    return Markup("labelled <b><bdi>{}</bdi></b>, answered {}").format(safe(exhibit.truth), answer)


def _was(exhibit: Exhibit) -> str:
    if exhibit.truth is None:
        return f"answered {exhibit.answer}"
    return f"labelled {exhibit.truth}, answered {exhibit.answer}"

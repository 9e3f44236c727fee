"""Small pieces of HTML whose content is escaped."""
import html
import json
import math


def escape(text):
    """Text for an element or a quoted attribute."""
    return html.escape(str(text))


def table(header, rows, kind='', caption=''):
    """A table that scrolls inside of its frame where it is too wide.

    Args:
        header (Sequence[str]): Column titles.
        rows (Iterable[Sequence]): Of texts; the first of each is the row's title.
        kind (str): CSS class.
        caption (str): What the table shows; also for those who do not see that it is one.

    Returns:
        str: HTML.
    """
    head = ''.join(f'<th scope="col">{escape(text)}</th>' for text in header)
    lines = [f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(text)}</td>" for text in rest)}</tr>'
             for first, *rest in rows]
    title = f'<caption>{escape(caption)}</caption>' if caption else ''
    body = '\n'.join(lines)
    return (f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption or header[0])}">'
            f'<table class="{kind}">{title}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>')


def details(summary, content, opened=False):
    """A part that can be unfolded; ``content`` is HTML."""
    return (f'<details{" open" if opened else ""}><summary>{escape(summary)}</summary>\n{content}\n</details>')


def select(name, label, options, attributes=''):
    """A labelled choice, which needs JavaScript and is hidden without.

    Args:
        name (str): Its id.
        label (str): What is chosen.
        options (dict[str, str]): ``{value: text}``, the first is chosen.
        attributes (str): More attributes of the element, as HTML.
    """
    items = ''.join(f'<option value="{escape(value)}">{escape(text)}</option>' for value, text in options.items())
    return (f'<span class="choice" data-js hidden><label for="{name}">{escape(label)}</label> '
            f'<select id="{name}" {attributes} autocomplete="off">{items}</select></span>')


def panels(group, label, items):
    """Parts of which one at a time is shown, with the choice between them; without JavaScript all are.

    Args:
        group (str): A name for them, unique in the page.
        label (str): What is chosen.
        items (Sequence[tuple[str, str]]): Title and HTML of each.

    Returns:
        tuple[str, str]: The choice, and the parts.
    """
    choice = select(group, label, {str(i): title for i, (title, _) in enumerate(items)}, f'data-panels="{group}"')
    parts = '\n'.join(f'<div class="panel" data-panel="{group}">\n{content}\n</div>' for _, content in items)
    return choice, parts


def embedded_json(content):
    """JSON that can stand in a ``<script>`` element: no text in it can end the element or begin a comment.

    Args:
        content (object): Of JSON's types; numbers that are not finite become ``null``.

    Returns:
        str: ASCII.
    """
    text = json.dumps(_finite(content), allow_nan=False, separators=(',', ':'))
    return text.replace('<', '\\u003c').replace('>', '\\u003e').replace('&', '\\u0026')


def _finite(content):
    if isinstance(content, dict):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content

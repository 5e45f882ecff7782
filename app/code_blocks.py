"""Code in colours: the tokens of a block as spans of a few classes, which style sheets paint for light and dark."""

import time
from functools import lru_cache
from itertools import groupby

from markupsafe import escape
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Generic, Keyword, Name, Number, Operator, String, _TokenType

CLASSES: list[tuple[_TokenType, str]] = [
    (Comment.Preproc, "tok-key"), (Comment, "tok-note"), (Keyword, "tok-key"), (Operator.Word, "tok-key"),
    (Name.Function, "tok-name"), (Name.Class, "tok-name"), (Name.Tag, "tok-key"), (Name.Attribute, "tok-name"),
    (Name.Builtin, "tok-name"), (Name.Decorator, "tok-name"), (Name.Exception, "tok-name"),
    (String, "tok-text"), (Number, "tok-number"),
    (Generic.Inserted, "tok-in"), (Generic.Deleted, "tok-out"), (Generic.Heading, "tok-key"),
    (Generic.Subheading, "tok-key"), (Generic.Prompt, "tok-note"), (Generic.Output, ""),
]  # fmt: skip
"""The first that a token's type belongs to names its class."""

LANGUAGES = {
    "bash", "sh", "shell", "c", "cpp", "c++", "csharp", "c#", "cs", "css", "diff", "dockerfile", "go", "golang",
    "haskell", "html", "ini", "java", "javascript", "js", "json", "jsx", "julia", "kotlin", "latex", "tex", "lua",
    "makefile", "matlab", "objective-c", "perl", "php", "powershell", "python", "py", "r", "ruby", "rb", "rust", "rs",
    "scala", "sql", "swift", "toml", "ts", "tsx", "typescript", "xml", "yaml", "yml",
}  # fmt: skip
"""As the fence names them. No others: each lexer is code that reads what strangers wrote."""

CSS_CLASSES = {name for _, name in CLASSES if name}


def highlighted(code: str, language: str, *, until: float = float("inf")) -> str | None:
    """A block's code as HTML; None where the language is not known, or a lexer is not done when this thread has used
    `until` seconds of CPU time: some look ahead as far as the code goes, again and again.
    """
    lexer = _lexer(language.lower())
    if lexer is None:
        return None
    tokens = []
    for _, kind, value in lexer.get_tokens_unprocessed(code):
        if time.thread_time() > until:
            return None
        tokens.append((_class_of(kind), value))
    if "".join(value for _, value in tokens) != code:  # some drop what they cannot read; nothing may vanish
        return None
    runs = groupby(tokens, key=lambda token: token[0])
    return "".join(_span(name, "".join(value for _, value in run)) for name, run in runs)


@lru_cache(maxsize=128)
def _lexer(language: str) -> Lexer | None:
    if language not in LANGUAGES:
        return None
    return get_lexer_by_name(language)


@lru_cache(maxsize=1024)
def _class_of(kind: _TokenType) -> str:
    return next((name for family, name in CLASSES if kind in family), "")


def _span(name: str, text: str) -> str:
    return f'<span class="{name}">{escape(text)}</span>' if name and text.strip() else str(escape(text))

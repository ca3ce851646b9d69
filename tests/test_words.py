"""The texts use the terms of the field: no everyday words or metaphors in place of a technical term."""

import io
import pathlib
import re
import tokenize

import pytest

ROOT = pathlib.Path(__file__).parents[1]
TREES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "skeeg", "docs", "examples", "benchmarks"]
GENERATED = ("docs/_build", "docs/_outputs", "docs/auto_examples", "docs/generated", "docs/sg_execution_times.rst")

TERMS = {
    r"people|persons?|somebody|everybody": "subjects, source subjects, target subject",
    r"made-up": "simulated",
    r"one's own|of one's": "target subject",
    r"guess(es|ed|ing)?": "predict, reconstruct",
    r"hidden (tokens?|patch(es)?|codes?)": "masked tokens",
    r"tell(s|ing)? (the )?(classes|hands) apart|hands apart": "classify",
    r"base class(es)?|a word for each": "codebook entry, token (VQ code)",
    r"way of the data": "data model, input formats",
    r"opponents?": "baselines",
    r"lost (signals?|electrodes?|seconds?)|what (is|was) lost|dead electrodes?": "missing samples, bad channels",
    r"shares? (it|the prediction|every prediction) out|(most )?telling samples": "feature attribution",
    r"silence|silent(ly)?": "zero baseline, without a warning",
    r"half (of )?the change": "weight interpolation (0.5)",
    r"hears?|listens?|place and rhythm": "spatial and temporal filters, topography, spectral peak",
    r"(the|this) house|rooms?|walls|doors?": "architecture, module, layering, entry point",
    r"carry (this|the) package on": "contribute",
    r"are there; |pieces of a comparison": "completed folds",
    r"neighbours sit": "temporal leakage, grouped or blocked cross-validation",
    r"looked at, at|is looked at": "is explained",
    r"stor(y|ies)": "example",
    r"stands? beside|is ahead of|leads the|wins": "is compared with, outperforms",
    r"headsets?|helmets?|cap of one": "montage, channels, MEG sensors",
    r"trainings from": "random restarts",
    r"by tonight|one evening": "say what the command computes and how long it takes",
}
FORBIDDEN = {re.compile(rf"\b(?:{pattern})\b", re.I): better for pattern, better in TERMS.items()}


def files(trees=TREES):
    """Text files of the trees that are checked."""
    for tree in trees:
        path = ROOT / tree
        found = [path] if path.is_file() else sorted(path.rglob("*"))
        for one in found:
            name = one.relative_to(ROOT).as_posix()
            if one.suffix in (".py", ".md", ".rst", ".html") and not name.startswith(GENERATED):
                yield one


def texts(path):
    """Line number and text of each line; of Python only comments and strings, as names are not prose."""
    source = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(source.splitlines(), 1)
        return
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in kinds:
            yield from enumerate(token.string.splitlines(), token.start[0])


def leaves_the_field(path):
    """Places where a text uses a forbidden term, with the term of the field."""
    for number, line in texts(path):
        for pattern, better in FORBIDDEN.items():
            for found in pattern.finditer(line):
                yield f"{path.relative_to(ROOT)}:{number}: {found[0]!r} -> {better}"


@pytest.mark.parametrize("tree", TREES)
def test_texts_use_the_terms_of_the_field(tree):
    found = [place for path in files([tree]) for place in leaves_the_field(path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "eight simulated people",
        "the network guesses hidden tokens",
        "the house and its rooms",
        "an error of silence",
        "a story",
    ],
)
def test_a_forbidden_term_is_found(tmp_path, text, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    for name, content in (("page.rst", text), ("code.py", f'people = 1  # fine\n"""{text}"""\n')):
        (tmp_path / name).write_text(content)
        assert list(leaves_the_field(tmp_path / name))


def test_names_in_code_are_not_prose(tmp_path):
    (tmp_path / "code.py").write_text("people = rooms = 1\n")
    assert not list(texts(tmp_path / "code.py"))

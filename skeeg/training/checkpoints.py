"""Published weights: read without executing anything, loaded with a report of what fitted."""

import contextlib
import dataclasses
import io
import json
import math
import os
import pathlib
import pickle
import pickletools
import zipfile
import zlib

import numpy as np
import torch

from ..storage import cause_of, read_tensors
from ..weights import PREFIX, locate
from .sizes import check_sizes

_NESTS = ("state_dict", "model_state_dict", "model", "module")
_HUB = "hub:"
_PRETRAINED, _CONFIG = "model.safetensors", "config.json"  # what save_pretrained of the hub writes
_NO_PARAMETERS = "n_outputs n_chans chs_info n_times input_window_seconds sfreq braindecode_version".split()
_HEADER, _CHECKSUM = "skeeg weights", "checksum"
_STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
_DEEPEST = 8  # dicts around a state dict
_EMPTY = torch.empty(0, dtype=torch.uint8)


@dataclasses.dataclass(frozen=True)
class CheckpointReport:
    """What a checkpoint brought.

    Attributes
    ----------
    matched, missing, unexpected, reshaped : tuple of str
        Tensors that were loaded, that only the network has, that only the checkpoint has, and of another shape.
    """

    matched: tuple = ()
    missing: tuple = ()
    unexpected: tuple = ()
    reshaped: tuple = ()

    def __str__(self):
        """Count what fitted and name the first of what did not."""
        lines = [f"{len(self.matched)} tensors matched"]
        for what in ("missing", "unexpected", "reshaped"):
            if names := vars(self)[what]:
                lines.append(f"{len(names)} {what}: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}")
        return "; ".join(lines)


def write_weights(path, tensors, description):
    """Write tensors and what they belong to; a file that is there is replaced in one step."""
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    text = json.dumps(description, default=lambda value: value.item())
    unfinished = pathlib.Path(f"{path}.{os.getpid()}")  # processes side by side never see half a file
    unfinished.write_bytes(save(tensors, {_HEADER: text, _CHECKSUM: _checksum(tensors, text)}))
    os.replace(unfinished, path)


def describe(estimator, montage=None):
    """Describe the network of an estimator for a file of weights."""
    spec = estimator.network_spec_
    montage = estimator.ch_names_in_ if montage is None else montage
    classes = np.asarray(vars(estimator).get("classes_", ())).tolist()
    return {"network": spec["network"], "network_params": spec["parameters"], "montage": montage,
            "sfreq": spec.get("sfreq"), "classes": classes}  # fmt: skip


def _checksum(tensors, text):
    """Checksum of a description, and of the names and values of tensors."""
    found = zlib.crc32(text.encode())
    for name in sorted(tensors):
        found = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy(), zlib.crc32(name.encode(), found))
    return str(found)


def read_weights(path, argument="checkpoint", checked=False):
    """Read the tensors of a file, all finite, and their description, without executing anything in it.

    The one reader of weights: a file of skeeg, another ``.safetensors`` file, one of `torch.save`, ``"skeeg:NAME"``, or
    a file of the Hugging Face hub as ``"hub:owner/repository/file"``. The description is what is stored with the
    tensors, of plain values; for a folder or repository of ``save_pretrained``, what its ``config.json`` has.
    ``argument`` names the path in errors; ``checked`` refuses a file without a checksum.
    """
    folder = os.path.isdir(path) or not str(path).endswith((".safetensors", ".pt", ".pth"))
    path = resolve(path, argument)
    try:
        with open(path, "rb") as file:
            start = file.read(4)
        if start == b"\x80\x02\x8a\x0a":
            raise ValueError("it is in the format that torch had before 1.6; load it with torch and save it again")
        if start == b"PK\x03\x04" and not checked:
            state, description = _read_pickled(path)
        else:
            state, description = _read_described(path, checked)
        if folder and not description and path.name == _PRETRAINED:
            description = _read_config(path.with_name(_CONFIG))
        if not state:
            raise ValueError("it holds no tensors by name")
        for name, value in state.items():
            if value.dtype not in (*_STORAGES.values(), torch.complex64, torch.complex128):
                raise ValueError(f"the tensor {name} is of the type {value.dtype}, which no network here has")
            if not torch.isfinite(value).all():
                raise ValueError(f"the tensor {name} is not finite")
        if not isinstance(description.get("network_params", {}), dict):
            raise ValueError("its network_params are no dict")
        check_sizes(description.get("network_params"), state)
        return state, description
    except Exception as error:  # every format has errors of its own
        raise ValueError(f"{argument}: {path} could not be read as plain tensors: {cause_of(error)}.") from error


def _read_described(path, checked):
    """Tensors of a safetensors file and their description; empty where it has none."""
    state, metadata = read_tensors(path, "pt")
    if checked and _CHECKSUM not in metadata:
        raise ValueError("it has no checksum")
    if _HEADER not in metadata:
        return state, {}
    if _CHECKSUM in metadata and metadata[_CHECKSUM] != _checksum(state, metadata[_HEADER]):
        raise ValueError("it is damaged, its checksum is another")
    description = json.loads(metadata[_HEADER])
    if not isinstance(description, dict):
        raise ValueError("its description is no dict")
    return state, description


def _read_config(path):
    """Read what ``save_pretrained`` wrote beside the weights: rate, sizes, and apart the classes that it names."""
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not isinstance(config, dict):
        raise ValueError(f"its {_CONFIG} is no dict")
    if not config:
        return {}
    sizes = {name: value for name, value in config.items() if name not in _NO_PARAMETERS and value is not None}
    named = {name: sizes.pop(name) for name in list(sizes) if isinstance(sizes[name], str) and "." in sizes[name]}
    rate = config.get("sfreq")
    if rate is not None and not (isinstance(rate, int | float) and 0 < rate < math.inf):
        raise ValueError(f"its {_CONFIG} has the sampling rate {rate!r}")
    return {"network_params": sizes, "named_classes": named} | ({} if rate is None else {"sfreq": float(rate)})


def resolve(reference, argument="checkpoint"):
    """Local file of a reference: a file, a folder of ``save_pretrained``, ``"skeeg:NAME"`` or ``"hub:..."``."""
    if str(reference).startswith(PREFIX):
        return locate(reference)
    path = pathlib.Path(fetch(reference) if str(reference).startswith(_HUB) else reference)
    if path.is_dir():  # as save_pretrained of the hub writes it
        if not (path / _PRETRAINED).is_file():
            raise ValueError(f"{argument}: {path} is a directory without {_PRETRAINED}, expected a file.")
        path /= _PRETRAINED
    if not path.is_file():
        raise FileNotFoundError(f"{argument}: there is no file {path}.")
    return path


def _read_pickled(path):
    """Tensors of a file of `torch.save`, out of the dicts that training scripts put around them, and what is beside."""
    found, depth = _read_archive(path), 0
    description = found if isinstance(found, dict) else {}
    while isinstance(found, dict) and (
        nest := next((name for name in _NESTS if isinstance(found.get(name), dict)), None)
    ):
        found, depth = found[nest], depth + 1
        if depth > _DEEPEST:
            raise ValueError(f"its {nest!r} contains itself, or a dict within a dict without end")
    found = found if isinstance(found, dict) else {}
    state = {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}
    if objects := [name for name, value in found.items() if isinstance(value, _Plain | type)]:
        raise ValueError(f"{objects[0]!r} is no tensor")
    if odd := [name for name in state if not isinstance(name, str)]:
        raise ValueError(f"the names of its tensors must be strings, got {odd[0]!r}")
    if all(name.startswith("module.") for name in state):  # as torch's DataParallel writes them
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state, {name: value for name, value in description.items() if value is not found}


class _Plain(dict):
    """Stands for an object of a pickle that is neither tensor nor plain value: items only, no behaviour."""

    __hash__ = object.__hash__

    def __init__(self, *args):
        super().__init__()

    def __setstate__(self, state):
        """Leave out what was stored beside the items."""

    def append(self, item):
        """Leave out an item of what was a list or a set."""

    add = extend = append


class _TensorUnpickler(pickle.Unpickler):
    """Unpickler of tensors, dicts, lists, tuples, numbers and strings; it imports and calls nothing that a file names.

    A pickle acts only through what `find_class` gives: here a type of tensor, `tuple`, a function that makes a
    tensor of numbers that were read already, or a `_Plain`. Functions and `_Plain` are new for each name, so a file
    cannot change what the next one gets. Numbers come from ``numbers(key, n_bytes)``, which holds no more than the
    file does.
    """

    def __init__(self, content, numbers):
        _check_opcodes(content)
        super().__init__(io.BytesIO(content), encoding="latin1")
        self._numbers = numbers

    def find_class(self, module, name):
        if module in ("torch", "torch.cuda") and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("torch", "Size"):
            return tuple
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda flat, offset, shape, strides, *_: _lay_out(flat, offset, shape, strides)
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch._utils" and name.startswith("_rebuild_"):
            raise ValueError(f"tensors of an unusual type ({name})")
        return type("Plain", (_Plain,), {})

    def persistent_load(self, pid):
        kind, dtype, key, _, count = pid[:5]
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str) or any(pid[5:]):
            raise ValueError(f"an unusual storage {pid!r:.80}")
        return self._numbers(key, count * dtype.itemsize).view(dtype)


def _check_opcodes(content):
    """Refuse a pickle that reserves memory for more than it holds."""
    for opcode, argument, _ in pickletools.genops(content):
        if "PUT" in opcode.name and int(argument) > len(content):
            raise ValueError("a memory index beyond the end")


def _lay_out(flat, offset, shape, strides):
    """Tensor over numbers that were read; never larger than they are."""
    if math.prod(shape) > len(flat) or min((offset, *shape, *strides)) < 0:
        raise ValueError(f"a tensor of shape {tuple(shape)} over {len(flat)} numbers")
    return flat.as_strided(tuple(shape), tuple(strides), offset).contiguous()


def _read_archive(path):
    """Content of a file of `torch.save`; one of TorchScript, which holds code, is refused before anything is read."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(name.endswith("/constants.pkl") or "/code/" in f"/{name}" for name in names):
            raise ValueError("it is a TorchScript archive, which holds code; save the state dict in its place")
        (main,) = (name for name in names if name.split("/", 1)[1:] == ["data.pkl"])
        folder = main.removesuffix("data.pkl")
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("its numbers are not little-endian")
        known, bytes_left = {}, os.path.getsize(path)

        def numbers(key, n_bytes):
            nonlocal bytes_left
            if key not in known:
                record = archive.getinfo(f"{folder}data/{key}")
                bytes_left -= record.file_size
                if record.file_size != n_bytes or bytes_left < 0 or record.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"storage {key} of {n_bytes} bytes, where the file has {record.file_size}")
                known[key] = torch.frombuffer(bytearray(archive.read(record)), dtype=torch.uint8) if n_bytes else _EMPTY
            return known[key]

        return _TensorUnpickler(archive.read(main), numbers).load()


def fetch(reference):
    """Fetch a file of the Hugging Face hub, ``"hub:owner/repository[/file]"``, once; give its path in the cache."""
    owner, _, rest = reference.removeprefix(_HUB).partition("/")
    repository, _, file = rest.partition("/")
    if not (owner and repository):
        raise ValueError(f"checkpoint: expected '{_HUB}owner/repository/file', got {reference!r}.")
    try:
        from huggingface_hub import errors, hf_hub_download
    except ImportError as error:
        raise ImportError("checkpoint: files of the hub need huggingface_hub: pip install skeeg[hub].") from error
    if not file:  # a repository of save_pretrained; `read_weights` reads the sizes beside the weights
        with contextlib.suppress(errors.EntryNotFoundError):  # it may have none
            hf_hub_download(f"{owner}/{repository}", _CONFIG)
    return hf_hub_download(f"{owner}/{repository}", file or _PRETRAINED)


def load_checkpoint(module, source, *, head="final_layer", keep_head=False, classes=None, wanted=None, file=None):
    """Load a checkpoint, a file or tensors by name, into a network: all of it but the last layer, or nothing.

    Give the `CheckpointReport`; a checkpoint that lacks anything else, has anything else, or is of another size is an
    error that lists it, and calls it ``file``. The network may have a ``mapping`` from the checkpoint's names to its
    own, and declare how published files differ by design: ``ignorable_parts`` that a file may have beyond the network,
    and ``dispensable_parts`` that it may lack. The last layer, ``head``, is loaded with ``keep_head``, or label by
    label where the outputs of the checkpoint, ``classes``, and those of the network, ``wanted``, are named.
    """
    state = source if isinstance(source, dict) else read_weights(source)[0]
    state, own = rename_keys(state, getattr(module, "mapping", None) or {}), module.state_dict()
    last = {} if keep_head else {name: state.pop(name) for name in list(state) if _inside(name, head)}
    body = {name for name in own if keep_head or not _inside(name, head)}
    state = {name: value for name, value in state.items() if name in own or not _part_of(name, module, "ignorable")}
    absent = body - state.keys()
    fits = {name: value for name, value in state.items() if name in body and value.shape == own[name].shape}
    report = CheckpointReport(
        matched=tuple(fits),
        missing=tuple(name for name in own if name in absent and not _part_of(name, module, "dispensable")),
        unexpected=tuple(name for name in state if name not in body),
        reshaped=tuple(name for name in state if name in body and name not in fits),
    )
    if report.missing or report.unexpected or report.reshaped:
        shapes = [f"{name} has {tuple(state[name].shape)} for {tuple(own[name].shape)}" for name in report.reshaped[:4]]
        what = file or ("it" if isinstance(source, dict) else source)
        details = "; ".join([str(report), *shapes])
        raise ValueError(f"checkpoint: {what} does not fit {type(module).__name__} ({details}).")
    if classes is not None:
        fits |= _match_head(last, own, head, classes, classes if wanted is None else wanted)
    torch.nn.Module.load_state_dict(module, own | fits)  # past a class's own renaming: names are ours by now
    missing = tuple(name for name in own if _inside(name, head) and name not in fits)
    return dataclasses.replace(report, matched=tuple(fits), missing=missing)


def _part_of(name, module, kind):
    """Whether a tensor belongs to the parts of a kind that a network declares."""
    return any(_inside(name, part) for part in vars(module).get(f"{kind}_parts", ()))


def _match_head(last, own, head, classes, wanted):
    """Last layer of the network with the rows of the checkpoint whose labels it has."""
    n_outputs = len(last.get(f"{head}.bias", ()))
    if len(classes) != n_outputs:
        raise ValueError(f"checkpoint_classes: got {len(classes)} labels for a checkpoint with {n_outputs} outputs.")
    filled = {name: own[name].clone() for name in own if _inside(name, head)}
    odd = [name for name in filled if name not in last or last[name].shape[1:] != filled[name].shape[1:]]
    if odd:
        raise ValueError(f"checkpoint: its last layer does not fit that of the network ({', '.join(odd)}).")
    rows = [(i, list(classes).index(label)) for i, label in enumerate(wanted) if label in list(classes)]
    for name, value in filled.items():
        for to, row in rows:
            value[to] = last[name][row]
    return filled


def published_state(module):
    """State dict of a network by the names of its published files, which its ``mapping`` has, on the CPU."""
    published = {ours: theirs for theirs, ours in (getattr(module, "mapping", None) or {}).items()}
    state = {name: value.detach().cpu().clone().contiguous() for name, value in module.state_dict().items()}
    return rename_keys(state, published)


def save_weights(module, path, description):
    """Write the weights of a network in the published layout: ``.safetensors`` with a description, or ``.pth``."""
    if str(path).endswith(".safetensors"):
        write_weights(path, published_state(module), description)
    else:
        torch.save(published_state(module), path)


def rename_keys(state, mapping):
    """Rename tensors by whole names or by leading parts of them."""
    renamed = {}
    for name, value in state.items():
        old = next((old for old in sorted(mapping, key=len, reverse=True) if _inside(name, old)), None)
        renamed[name if old is None else mapping[old] + name[len(old) :]] = value
    return renamed


def _inside(name, part):
    """Whether a tensor belongs to a part of the network."""
    return name == part or name.startswith(f"{part.rstrip('.')}.")

#!/usr/bin/env python3
"""Writes src/generated/ from the service models that botocore ships.

Only facts are taken: names of operations, shapes, members and exceptions, which members are required, and the
constraints on them. The models' documentation texts are never read.

    pip install -r codegen/requirements.txt     (in a virtual environment)
    python codegen/generate.py                  rewrites the files
    python codegen/generate.py --check          fails, with the difference, if they would change

Three files come out. `private.rs` and `public.rs` hold one table per service: every operation with the shapes of its
input and output and the exceptions it may answer. `types.rs` holds the Rust types of both services together: where
both have a structure of the same name, the type has the members of both, and a member is required only if both
require it. The tables stay exact for each service, and they, not the types, judge what a request may hold.

rustfmt must be on the PATH.
"""

import argparse
import difflib
import gzip
import json
import pathlib
import re
import subprocess
import sys

CRATE = pathlib.Path(__file__).resolve().parent.parent
OUTPUT = CRATE / "src" / "generated"
RUSTFMT_CONFIG = CRATE.parent.parent / "rustfmt.toml"
SERVICES = (("private", "ecr", "2015-09-21"), ("public", "ecr-public", "2020-10-30"))
SCALARS = {
    "string": "String",
    "integer": "i32",
    "long": "i64",
    "double": "f64",
    "boolean": "bool",
    "timestamp": "Timestamp",
    "blob": "Blob",
}


def pinned_version():
    text = (CRATE / "codegen" / "requirements.txt").read_text()
    return re.search(r"^botocore==(\S+)$", text, re.MULTILINE).group(1)


def load_models():
    try:
        import botocore
    except ImportError:
        sys.exit("botocore is not installed: pip install -r codegen/requirements.txt")
    if botocore.__version__ != pinned_version():
        sys.exit(f"botocore {botocore.__version__} is installed, the pin is {pinned_version()}")
    data = pathlib.Path(botocore.__file__).parent / "data"
    models = {}
    for module, service, version in SERVICES:
        folder = data / service / version
        packed = folder / "service-2.json.gz"
        if packed.exists():
            models[module] = json.loads(gzip.decompress(packed.read_bytes()))
        else:
            models[module] = json.loads((folder / "service-2.json").read_text())
    return models


def words(name):
    """The words of a camelCase, PascalCase, SCREAMING_CASE or kebab-case name, in lower case."""
    out = []
    for piece in re.split(r"[_\-]", name):
        if piece.isupper() or not re.search(r"[a-z]", piece):
            out.append(piece)
        else:
            out.extend(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", piece))
    return [w.lower() for w in out if w]


def snake(name):
    text = "_".join(words(name))
    return "r#type" if text == "type" else text


def constant(name):
    return "_".join(words(name)).upper()


def pascal(name):
    return "".join(w.capitalize() for w in words(name))


def type_name(shape_name):
    return shape_name[0].upper() + shape_name[1:]


def rust_string(text):
    if "\\" in text:
        hashes = "#" if '"' in text else ""
        return f'r{hashes}"{text}"{hashes}'
    return json.dumps(text)


def bound(value):
    return "None" if value is None else f"Some({value:_})" if value >= 1000 else f"Some({value})"


def is_exception(shape):
    return shape.get("exception", False)


# --- tables -------------------------------------------------------------------------------------------------------


def reachable(model, roots):
    """Names of all shapes that can be reached from `roots`, in a stable order."""
    shapes, seen, order, todo = model["shapes"], set(), [], list(roots)
    while todo:
        name = todo.pop(0)
        if name in seen:
            continue
        seen.add(name)
        order.append(name)
        shape = shapes[name]
        if shape["type"] == "structure":
            todo.extend(m["shape"] for m in shape["members"].values())
        elif shape["type"] == "list":
            todo.append(shape["member"]["shape"])
        elif shape["type"] == "map":
            todo.extend((shape["key"]["shape"], shape["value"]["shape"]))
    return order


def table_of_shape(name, shape):
    kind, low, high = shape["type"], shape.get("min"), shape.get("max")
    if kind == "string" and "enum" in shape:
        values = ", ".join(rust_string(v) for v in shape["enum"])
        return f"Shape::Enum {{ values: &[{values}] }}"
    if kind == "string":
        pattern = shape.get("pattern")
        pattern = f"Some(Pattern::new({rust_string(pattern)}))" if pattern else "None"
        return f"Shape::String {{ min: {bound(low)}, max: {bound(high)}, pattern: {pattern} }}"
    if kind == "integer":
        return f"Shape::Integer {{ min: {bound(low)}, max: {bound(high)} }}"
    if kind == "long":
        return f"Shape::Long {{ min: {bound(low)}, max: {bound(high)} }}"
    if kind == "blob":
        return f"Shape::Blob {{ min: {bound(low)}, max: {bound(high)} }}"
    if kind == "list":
        member = constant(shape["member"]["shape"])
        return f"Shape::List {{ member: &{member}, min: {bound(low)}, max: {bound(high)} }}"
    if kind == "map":
        return f"Shape::Map {{ key: &{constant(shape['key']['shape'])}, value: &{constant(shape['value']['shape'])} }}"
    if kind == "structure":
        required = set(shape.get("required", ()))
        members = "".join(
            f"Member {{ name: {rust_string(m)}, required: {str(m in required).lower()}, shape: &{constant(v['shape'])} }},"
            for m, v in shape["members"].items()
        )
        return f"Shape::Structure(Structure {{ name: {rust_string(name)}, members: &[{members}] }})"
    return {"boolean": "Shape::Boolean", "double": "Shape::Double", "timestamp": "Shape::Timestamp"}[kind]


def table(module, model):
    operations, shapes = model["operations"], model["shapes"]
    exceptions = sorted(n for n, s in shapes.items() if is_exception(s))
    roots = []
    for operation in operations.values():
        roots.append(operation["input"]["shape"])
        roots.append(operation["output"]["shape"])
    names = sorted(reachable(model, roots + exceptions))
    constants = {}
    for name in names:
        assert constants.setdefault(constant(name), name) == name, f"{name} and {constants[constant(name)]} clash"
    used = {"Shape", "Structure", "Member", "Operation", "Exception", "Service"}
    if any("pattern" in shapes[n] for n in names):
        used.add("Pattern")

    out = [HEADER.format(what=f"Tables of the {module} service", version=pinned_version())]
    out.append("use super::types::ErrorCode;\n")
    out.append(f"use crate::shape::{{{', '.join(sorted(used))}}};\n\n")
    out.append(f"/// The {module} service: its target prefix, its operations and its exceptions.\n")
    out.append(
        f"pub static SERVICE: Service = Service {{ name: {rust_string(model['metadata']['signingName'])}, "
        f"target_prefix: {rust_string(model['metadata']['targetPrefix'])}, operations: &OPERATIONS, exceptions: &EXCEPTIONS }};\n\n"
    )
    out.append(f"/// All {len(operations)} operations of the {module} service, by name.\n")
    out.append(f"pub static OPERATIONS: [Operation; {len(operations)}] = [\n")
    for name in sorted(operations):
        operation = operations[name]
        errors = ", ".join(f"ErrorCode::{e['shape']}" for e in operation["errors"])
        out.append(
            f"Operation {{ name: {rust_string(name)}, input: &{constant(operation['input']['shape'])}, "
            f"output: &{constant(operation['output']['shape'])}, errors: &[{errors}] }},\n"
        )
    out.append("];\n\n")
    out.append(f"/// All {len(exceptions)} exceptions that the {module} service models, by name.\n")
    out.append(f"pub static EXCEPTIONS: [Exception; {len(exceptions)}] = [\n")
    for name in exceptions:
        fault = str(shapes[name].get("fault", False)).lower()
        out.append(f"Exception {{ code: ErrorCode::{name}, fault: {fault}, shape: &{constant(name)} }},\n")
    out.append("];\n\n")
    for name in names:
        out.append(f"static {constant(name)}: Shape = {table_of_shape(name, shapes[name])};\n\n")
    return "".join(out)


# --- types --------------------------------------------------------------------------------------------------------


def merge_shapes(models):
    """Every shape of both services under one name; what differs in kind gets a name of its own for the public service."""
    merged = {name: json.loads(json.dumps(shape)) for name, shape in models["private"]["shapes"].items()}
    renamed = {}
    public = models["public"]["shapes"]

    def kinds_differ(a, b):
        return (a["type"], "enum" in a) != (b["type"], "enum" in b)

    def member_kind(shapes, name):
        shape = shapes[name]
        if shape["type"] == "structure" or "enum" in shape:
            return name
        if shape["type"] == "list":
            return ("list", member_kind(shapes, shape["member"]["shape"]))
        return shape["type"]

    for name, shape in public.items():
        mine = merged.get(name)
        if mine is None:
            continue
        clash = kinds_differ(mine, shape) or (
            shape["type"] == "structure"
            and any(
                m in mine["members"]
                and member_kind(public, v["shape"]) != member_kind(models["private"]["shapes"], mine["members"][m]["shape"])
                for m, v in shape["members"].items()
            )
        )
        if clash:
            renamed[name] = f"Public{name}"
    for name, shape in public.items():
        shape = json.loads(json.dumps(shape))
        for member in shape.get("members", {}).values():
            member["shape"] = renamed.get(member["shape"], member["shape"])
        for key in ("member", "key", "value"):
            if key in shape:
                shape[key]["shape"] = renamed.get(shape[key]["shape"], shape[key]["shape"])
        name = renamed.get(name, name)
        mine = merged.get(name)
        if mine is None:
            merged[name] = shape
        elif shape["type"] == "structure":
            # A member that one service does not know cannot be required of both.
            both = set(mine.get("required", ())) & set(shape.get("required", ()))
            mine["members"].update({m: v for m, v in shape["members"].items() if m not in mine["members"]})
            mine["required"] = sorted(both)
        elif "enum" in shape:
            mine["enum"] = mine["enum"] + [v for v in shape["enum"] if v not in mine["enum"]]
    return merged, renamed


def types(models):
    shapes, renamed = merge_shapes(models)
    inputs, outputs, exceptions = set(), set(), set()
    merged = {"shapes": shapes}
    for module, model in models.items():
        for operation in model["operations"].values():
            for key, target in (("input", inputs), ("output", outputs)):
                name = operation[key]["shape"]
                name = renamed.get(name, name) if module == "public" else name
                target.update(reachable(merged, [name]))
        exceptions.update(n for n, s in model["shapes"].items() if is_exception(s))

    def rust_type(name):
        shape = shapes[name]
        if shape["type"] == "structure" or "enum" in shape:
            return type_name(name)
        if shape["type"] == "list":
            return f"Vec<{rust_type(shape['member']['shape'])}>"
        if shape["type"] == "map":
            return f"BTreeMap<{rust_type(shape['key']['shape'])}, {rust_type(shape['value']['shape'])}>"
        return SCALARS[shape["type"]]

    def described(name):
        shape = shapes[name]
        if shape["type"] == "structure" or "enum" in shape:
            return f"[`{type_name(name)}`]"
        if shape["type"] == "list":
            return f"list of {described(shape['member']['shape'])}"
        if shape["type"] == "map":
            return f"map from {described(shape['key']['shape'])} to {described(shape['value']['shape'])}"
        return shape["type"]

    def has_default(name):
        shape = shapes[name]
        if "enum" in shape:
            return False
        if shape["type"] == "structure":
            required = set(shape.get("required", ()))
            return all(has_default(v["shape"]) for m, v in shape["members"].items() if m in required)
        return True

    def services_of(name):
        bare = {v: k for k, v in renamed.items()}.get(name)
        if bare:
            return ["public"]
        return [m for m, model in models.items() if name in model["shapes"] and not (m == "public" and name in renamed)]

    def users(name):
        found = []
        for module, model in models.items():
            for operation_name, operation in model["operations"].items():
                for key in ("input", "output"):
                    shape = operation[key]["shape"]
                    shape = renamed.get(shape, shape) if module == "public" else shape
                    if shape == name:
                        found.append((key, operation_name, module))
        return found

    def title(name):
        direct = users(name)
        both = " and ".join(services_of(name))
        if direct:
            return f"{direct[0][0].capitalize()} of {direct[0][1]} ({both})."
        return f"`{name[6:] if name in renamed.values() else name}` ({both})."

    wanted = sorted(n for n in inputs | outputs if n not in exceptions)
    structures = [n for n in wanted if shapes[n]["type"] == "structure"]
    enums = [n for n in wanted if "enum" in shapes[n]]

    out = [HEADER.format(what="Rust types of both services", version=pinned_version())]
    out.append("use std::collections::BTreeMap;\n\n")
    out.append("use serde::{Deserialize, Serialize};\n\n")
    out.append("use crate::shape::{Blob, Timestamp};\n\n")

    out.append("/// Every exception that one of the services models.\n")
    out.append("#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]\n#[non_exhaustive]\n")
    out.append("pub enum ErrorCode {\n")
    for name in sorted(exceptions):
        fault = shapes[name].get("fault", False)
        extra = [m for m in shapes[name]["members"] if m != "message"]
        text = "`__type` `" + name + "`" + (", the service's own fault" if fault else "")
        if extra:
            text += ", with " + ", ".join(f"`{m}`" for m in extra)
        out.append(f"/// {text}.\n{name},\n")
    out.append("}\n\nimpl ErrorCode {\n/// The name as the wire spells it in `__type`.\npub const fn as_str(self) -> &'static str {\nmatch self {\n")
    for name in sorted(exceptions):
        out.append(f"Self::{name} => {rust_string(name)},\n")
    out.append("}\n}\n\n/// Whether it is the service's own fault and not the caller's.\npub const fn is_fault(self) -> bool {\n")
    faults = " | ".join(f"Self::{n}" for n in sorted(exceptions) if shapes[n].get("fault", False))
    out.append(f"matches!(self, {faults})\n}}\n}}\n\n")

    for name in enums:
        derives = ["Debug", "Clone", "Copy", "PartialEq", "Eq", "PartialOrd", "Ord", "Hash"]
        derives += (["Serialize"] if name in outputs else []) + (["Deserialize"] if name in inputs else [])
        out.append(f"/// {title(name)}\n#[derive({', '.join(derives)})]\npub enum {type_name(name)} {{\n")
        for value in shapes[name]["enum"]:
            rename = f"#[serde(rename = {rust_string(value)})]\n" if value != pascal(value) and name in inputs | outputs else ""
            out.append(f"/// `{value}`.\n{rename}{pascal(value)},\n")
        out.append(f"}}\n\nimpl {type_name(name)} {{\n/// The value as the wire spells it.\npub const fn as_str(self) -> &'static str {{\nmatch self {{\n")
        for value in shapes[name]["enum"]:
            out.append(f"Self::{pascal(value)} => {rust_string(value)},\n")
        out.append("}\n}\n}\n\n")

    for name in structures:
        shape = shapes[name]
        required = set(shape.get("required", ()))
        derives = ["Debug", "Clone", "PartialEq"] + (["Default"] if has_default(name) else [])
        derives += (["Serialize"] if name in outputs else []) + (["Deserialize"] if name in inputs else [])
        out.append(f"/// {title(name)}\n#[derive({', '.join(derives)})]\n")
        if not shape["members"]:
            out.append(f"pub struct {type_name(name)} {{}}\n\n")
            continue
        out.append(f"pub struct {type_name(name)} {{\n")
        for member, value in shape["members"].items():
            optional = "" if member in required else ", may be absent"
            attributes = [f"rename = {rust_string(member)}"] if member != snake(member) else []
            if member not in required and name in outputs:
                attributes.append('skip_serializing_if = "Option::is_none"')
            serde = f"#[serde({', '.join(attributes)})]\n" if attributes else ""
            kind = rust_type(value["shape"])
            kind = kind if member in required else f"Option<{kind}>"
            out.append(f"/// `{member}`: {described(value['shape'])}{optional}.\n{serde}pub {snake(member)}: {kind},\n")
        out.append("}\n\n")
    return "".join(out)


HEADER = """// Generated by codegen/generate.py from the service models of botocore {version}. Do not edit: run the generator.

//! {what}, generated from the service models.

"""


def formatted(text):
    command = ["rustfmt", "--edition", "2024", "--config-path", str(RUSTFMT_CONFIG), "--emit", "stdout"]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"rustfmt failed: {done.stderr}")
    return done.stdout


def main():
    parser = argparse.ArgumentParser(description="Write src/generated/ from botocore's service models.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the files differ from the models")
    arguments = parser.parse_args()
    models = load_models()
    files = {f"{module}.rs": table(module, models[module]) for module, _, _ in SERVICES}
    files["types.rs"] = types(models)
    stale = False
    for name, text in files.items():
        path, text = OUTPUT / name, formatted(text)
        if not arguments.check:
            path.write_text(text)
            continue
        committed = path.read_text() if path.exists() else ""
        if committed != text:
            stale = True
            sys.stdout.writelines(
                difflib.unified_diff(committed.splitlines(True), text.splitlines(True), f"committed/{name}", f"generated/{name}")
            )
    if stale:
        sys.exit("src/generated/ is not what the pinned models give: run codegen/generate.py")


if __name__ == "__main__":
    main()

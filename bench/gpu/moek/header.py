"""Reads moekernels.h: the values of its enums and the fields of its structs."""

import re


class Header:
    """What a caller needs to know of the header's text."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            text = re.sub(r"/\*.*?\*/", " ", file.read(), flags=re.DOTALL)
        self.constants = {name: int(value) for name, value in re.findall(r"^#define (MOEK_\w+) (\d+)\s*$", text, re.MULTILINE)}
        for body in re.findall(r"typedef enum \w+ \{(.*?)\}", text, re.DOTALL):
            for name, value in re.findall(r"(MOEK_\w+)\s*=\s*(\d+)", body):
                self.constants[name] = int(value)
        self._callbacks = set(re.findall(r"typedef [\w ]+\*? ?\(\*(\w+)\)\(", text))
        self.structs = {name: self._fields(name, body)
                        for name, body in re.findall(r"typedef struct (\w+) \{(.*?)\}", text, re.DOTALL)}
        if not self.structs:
            raise ValueError(f"{path} declares no struct")

    def __getitem__(self, name):
        """The value of MOEK_<name>."""
        return self.constants["MOEK_" + name]

    def name_of(self, prefix, value):
        """The constant MOEK_<prefix>_... that has a value."""
        for name, number in self.constants.items():
            if name.startswith(f"MOEK_{prefix}_") and number == value:
                return name
        return f"{prefix} {value}"

    def _fields(self, struct, body):
        """[(name, type, count)], type being a C type or "pointer", count None unless it is an array."""
        fields = []
        for declaration in (" ".join(part.split()) for part in body.split(";")):
            if not declaration:
                continue
            match = re.fullmatch(r"(?:const )?(\w+) ?(\*?) ?(\w+)(?:\[(\w+)\])?", declaration)
            if match is None:
                raise ValueError(f"{struct}: cannot read the field '{declaration}'")
            kind, star, name, count = match.groups()
            if count is not None:
                count = int(count) if count.isdigit() else self.constants[count]
            fields.append((name, "pointer" if star or kind in self._callbacks else kind, count))
        return fields

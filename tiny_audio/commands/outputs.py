"""Choosing where the result of every file goes, or saying why it cannot go there."""

from __future__ import annotations

import os
from pathlib import Path

from tiny_audio.model.errors import ConfigError

MOST_BYTES = 255  # of a name, on every usual file system
# What is left out of a name; whatever else stands behind a point is part of it: "Interview v1.2".
ENDINGS = tuple(
    ".wav .wave .flac .mp3 .mp2 .ogg .opus .oga .ogv .m4a .m4b .m4v .mp4 .aac .webm .mka .mkv .mov "
    ".aiff .aif .aifc .au .snd .caf .sph .w64 .rf64 .wma .wmv .amr .3gp .3g2 .ac3 .ts .avi .mpg "
    ".mpeg .flv".split()
)


def places(files: list[str], suffix: str, folder: Path) -> list[Path | ConfigError]:
    """Return a path in `folder` for every file, or why it has none. The folder is made.

    `ConfigError` where nothing can be written at all.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made ({error.strerror}).") from error
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"You may not write into {folder}. Name another folder.")
    found, first = list[Path | ConfigError](), dict[str, str]()
    for given in files:
        name = stem(given) + suffix
        if len(os.fsencode(name)) > MOST_BYTES:
            found.append(ConfigError(f"with {suffix} its name has more than {MOST_BYTES} bytes"))
        elif name in first:
            found.append(
                ConfigError(
                    f"{name} is the text of {first[name]}; give this file by itself, with "
                    "another --output-dir"
                )
            )
        else:
            first[name] = given
            found.append(folder / name)
    return found


def stem(given: str) -> str:
    """Return the name of a file without the ending that tells what is in it."""
    if given == "-":
        return "stdin"
    name = Path(given).name
    ending = next((one for one in ENDINGS if name.lower().endswith(one)), "")
    return name[: -len(ending)] if 0 < len(ending) < len(name) else name

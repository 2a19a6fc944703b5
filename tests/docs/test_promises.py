"""Every test that a document names as holding a promise is there."""

import re

import toys


def test_every_promise_names_a_test_that_is_there():
    text = (toys.REPOSITORY / "docs/explanation/security.md").read_text()
    path, found = None, 0
    for file, name in re.findall(r"`([\w/]*\.py)?(?:::(\w+))?`", text):
        path = toys.REPOSITORY / "tests" / file if file else path
        if file or name:
            found += 1
            assert not name or f"def {name}(" in path.read_text(), (file, name)
            assert path.is_file(), file
    assert found >= 25
    promised = text.split("## Promised")[1].split("## ")[0]
    rows = [line for line in promised.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 15
    assert all("test_" in row for row in rows)

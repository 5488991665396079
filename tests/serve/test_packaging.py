#!/usr/bin/env python3
"""The unit, the Dockerfile, the example settings: by reading, and by the tools that are there.
usage: test_packaging.py BIN_DIR SOURCE_DIR"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

BIN, SRC = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
PACKAGING = os.path.join(SRC, "packaging")
passed, failed, skipped = 0, 0, []


def check(name, condition, detail=""):
    global passed, failed
    if condition:
        passed += 1
    else:
        failed += 1
        print("FAIL", name, detail)


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as f:
        return f.read()


def output(*args, env=None):
    r = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, timeout=120)
    return r.returncode, r.stdout, r.stderr


def installed_by(stage):
    m = re.search(r"apt-get install -y --no-install-recommends(.*?)&&", stage, re.S)
    return m[1].replace("\\", " ").split() if m else []


def test_dockerfile():
    text = read(PACKAGING, "Dockerfile")
    stages = re.split(r"^FROM ", text, flags=re.M)[1:]
    check("two stages of one Debian", len(stages) == 2 and len({s.split()[0] for s in stages}) == 1, [s.split()[0] for s in stages])
    wanted = re.search(r'^DEBIAN_BUILD="(.*?)"', read(SRC, "scripts", "setup.sh"), re.S | re.M)[1].split()
    check("it builds with the packages of setup.sh", installed_by(stages[0]) == wanted, (installed_by(stages[0]), wanted))
    for name in re.findall(r"COPY (?:--from=\S+ )?(\S+)", text):
        check("COPY of what is there: " + name, name == "." or name.startswith("/installed/"), name)
    last = stages[-1]
    user = re.search(r"^USER (\S+)", last, re.M)
    check("not as root", user and user[1] not in ("0", "root") and last.index("USER") < last.index("ENTRYPOINT"))
    check("health, volume, port", all(x in last for x in ("HEALTHCHECK", "VOLUME /var/lib/mlxserve", "EXPOSE 11434", "MLXR_HOME=/var/lib/mlxserve")))
    ignored = read(SRC, ".dockerignore").split()
    check("what is built here stays out", {"build", ".git", "models"} <= set(ignored), ignored)
    # Libraries that the programs name come of packages that the second stage installs.
    if not shutil.which("readelf") or not shutil.which("dpkg") or "bookworm" not in read("/etc/os-release"):
        skipped.append("libraries of the Dockerfile: this is not Debian bookworm with binutils")
        return
    packages = set()
    for program in ("mlxserve", "mlxctl"):
        if "statically" in output("ldd", os.path.join(BIN, program))[2]:
            continue
        for library in re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "-d", os.path.join(BIN, program))[1]):
            if re.match(r"lib(asan|ubsan|tsan|gcc_s|clang)", library):
                continue
            path = re.search(r"%s => (\S+)" % re.escape(library), output("ldd", os.path.join(BIN, program))[1])
            for candidate in filter(None, [path and os.path.realpath(path[1]), path and path[1]]):
                candidate = re.sub("^/usr(?=/lib)", "", candidate)
                owner = re.search(r"^([^:,]+)", output("dpkg", "-S", candidate)[1] or output("dpkg", "-S", "/usr" + candidate)[1])
                if owner:
                    packages.add(owner[1])
                    break
    packages -= {"libc6"}
    check("libraries were found", len(packages) > 4, packages)
    missing = packages - set(installed_by(last))
    check("and the second stage has them", not missing, missing)


def test_unit():
    text = read(PACKAGING, "mlxserve.service.in")
    for line in ("Type=notify", "DynamicUser=yes", "StateDirectory=mlxserve", "ProtectSystem=strict", "NoNewPrivileges=yes",
                 "ExecReload=/bin/kill -HUP $MAINPID", "Environment=MLXR_HOME=/var/lib/mlxserve"):
        check("unit: " + line, line in text)
    drain = float(re.search(r"drain-timeout.*?\((\d+)s\)", re.sub(r"\s+", " ", output(os.path.join(BIN, "mlxserve"), "--help")[1]))[1])
    check("unit: it waits longer than mlxserve", float(re.search(r"TimeoutStopSec=(\d+)", text)[1]) > drain)
    if not shutil.which("systemd-analyze"):
        skipped.append("the unit: systemd-analyze is not here")
        return
    with tempfile.TemporaryDirectory() as d:
        unit = os.path.join(d, "mlxserve.service")
        with open(unit, "w", encoding="utf-8") as f:
            f.write(text.replace("@CMAKE_INSTALL_FULL_BINDIR@", BIN))
        code, out, err = output("systemd-analyze", "verify", "--man=no", unit)
        ours = [x for x in (out + err).splitlines() if "mlxserve.service" in x]
        check("systemd-analyze verify", not ours, ours)
        code, out, err = output("systemd-analyze", "security", "--offline=yes", "--threshold=30", unit)
        if "Unknown option" in err or "unrecognized option" in err:
            skipped.append("the unit: systemd-analyze security --offline is not known here")
        else:
            check("systemd-analyze security", code == 0, out.splitlines()[-1:] + err.splitlines()[-1:])


def test_settings():
    text = read(PACKAGING, "mlxserve.yaml")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLXSERVE_", "OLLAMA_", "MLXR_"))}

    def config(body):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "mlxserve.yaml")
            with open(path, "w", encoding="utf-8") as f:
                f.write(body)
            code, out, err = output(os.path.join(BIN, "mlxserve"), "--check-config", "--json", "--store", d, "--config", path, env=clean)
            return code, out, err

    code, out, err = config(text)
    check("the example is a config file", code == 0, err)
    check("and sets nothing", code == 0 and set(re.findall(r'"from": "([^"]*)"', out)) <= {"default", "--store"}, out)
    # What stands there with a "#" is a setting, and the default but for paths and lists.
    body = re.sub(r"^# (?=[a-z-]+:|  - )", "", text, flags=re.M)
    body = re.sub(r"^(api-key-file|tls-cert|tls-key|origins|preload|log):.*\n(  - .*\n)*", "", body, flags=re.M)
    code, out, err = config(body)
    check("each setting of the example is one", code == 0, err)
    default = config("")[1]

    def values(x):
        import json
        return {k: v["value"] for k, v in json.loads(x).items() if isinstance(v, dict) and k != "store"}

    check("and the default", code == 0 and values(out) == values(default), (out, default))


for test in (test_dockerfile, test_unit, test_settings):
    test()
for reason in skipped:
    print("SKIP:", reason)
print("%d passed, %d failed" % (passed, failed))
sys.exit(1 if failed else 0)

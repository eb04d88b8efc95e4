# SPDX-License-Identifier: BSD-2-Clause
"""Writes configurations.  Underscores in keys become hyphens."""


def value(v):
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, (int, float)):
        return str(v)
    if isinstance(v, (list, tuple)):
        return "{" + ", ".join(value(x) for x in v) + "}"
    return '"' + str(v).replace("\\", "\\\\").replace('"', '\\"') + '"'


def block(indent, keys):
    out = ""
    for k, v in keys.items():
        k = k.replace("_", "-")
        if isinstance(v, dict):
            out += f"{indent}{k} {{\n{block(indent + '  ', v)}{indent}}}\n"
        elif v is not None:
            out += f"{indent}{k} = {value(v)}\n"
    return out


class Conf:
    """conf = Conf(workers=1); conf.listen("web", bind=[...]); conf.pool("app", {"a": "127.0.0.1:1"});
    conf.route("all", pool="app"); str(conf)"""

    def __init__(self, **top):
        self.top = top
        self.listeners, self.pools, self.routes, self.vips = {}, {}, {}, {}

    def listen(self, name, **keys):
        self.listeners[name] = keys
        return self

    def pool(self, name, servers, **keys):
        """servers: {name: address or dict of keys}"""
        self.pools[name] = (keys, {n: s if isinstance(s, dict) else {"address": s} for n, s in servers.items()})
        return self

    def route(self, name, pool, **keys):
        self.routes[name] = dict(keys, pool=pool)
        return self

    def vip(self, name, **keys):
        self.vips[name] = keys
        return self

    def __str__(self):
        out = block("", self.top)
        for name, keys in self.vips.items():
            out += f'vip "{name}" {{\n{block("  ", keys)}}}\n'
        for name, keys in self.listeners.items():
            out += f'listen "{name}" {{\n{block("  ", keys)}}}\n'
        for name, (keys, servers) in self.pools.items():
            out += f'pool "{name}" {{\n{block("  ", keys)}'
            for n, s in servers.items():
                out += f'  server "{n}" {{\n{block("    ", s)}  }}\n'
            out += "}\n"
        for name, keys in self.routes.items():
            out += f'route "{name}" {{\n{block("  ", keys)}}}\n'
        return out

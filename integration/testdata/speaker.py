"""Builds RSVP packets with scapy's layer, and reads them with it.

Each line of stdin is a request in JSON, each line of stdout its answer: for
{"build": {...}} the IP packet in hex, for {"read": hex} what scapy sees in it.

scapy's layer knows the seven messages of RFC 2205 and few objects: HOP,
TIME_VALUES and SENDER_TSPEC have fields, all others are its Data, whose bytes
are packed here by the figures of RFC 2205 Appendix A and RFC 2210. What is
wrong in the layer is set by hand: an object's Length is not computed, and
SENDER_TSPEC's lengths default to 4 where RFC 2210 has 7 and 6 words; Flags
defaults to 1, which would claim RFC 2961; HOP of IPv6 is read as one of IPv4; a Bundle or Srefresh has no name.
"""
import json
import socket
import struct
import sys

from scapy.contrib.rsvp import (RSVP, RSVP_Data, RSVP_HOP, RSVP_Object,
                                RSVP_SenderTSPEC, RSVP_Time)
from scapy.layers.inet import IP, IPOption_Router_Alert

TYPES = {"path": 1, "resv": 2, "patherr": 3, "resverr": 4, "pathtear": 5,
         "resvtear": 6, "resvconf": 7}
STYLES = {"wf": 0x11, "ff": 0x0A, "se": 0x12}


def address(a):
    return socket.inet_aton(a)


def number(x):
    """A float of the TSpec; a string is its four bytes in hex."""
    return bytes.fromhex(x) if isinstance(x, str) else struct.pack("!f", x)


def bucket(t):
    r, b, p, m, most = t
    return (bytes((127, 0, 0, 5)) + number(r) + number(b) + number(p) +
            struct.pack("!II", m, most))


def data(cls, body, ctype=1):
    return RSVP_Object(Length=4 + len(body), Class=cls, C_Type=ctype) / RSVP_Data(Data=body)


def session(s):
    dst, proto, port = s
    return data(1, address(dst) + struct.pack("!BBH", proto, 0, port))


def filters(cls, f):
    src, port = f
    return data(cls, address(src) + struct.pack("!HH", 0, port))


def tspec(t):
    return RSVP_Object(Length=36, Class=12, C_Type=2) / RSVP_SenderTSPEC(
        Data_Length=7, Srv_hdr=1, Srv_Length=6, Tokens=bucket(t))


def flowspec(t):
    return data(9, struct.pack("!BBHBBH", 0, 0, 7, 5, 0, 6) + bucket(t), 2)


def adspec(hops):
    """General parameters and controlled load, as Cisco's routers send them."""
    body = struct.pack("!BBH", 0, 0, 10)
    body += struct.pack("!BBH", 1, 0, 8)
    body += struct.pack("!BBHI", 4, 0, 1, hops)
    body += struct.pack("!BBHf", 6, 0, 1, 1.25e6)
    body += struct.pack("!BBHI", 8, 0, 1, 0)
    body += struct.pack("!BBHI", 10, 0, 1, 1500)
    body += struct.pack("!BBH", 5, 0, 0)
    return data(13, body, 2)


def error(e):
    node, flags, code, value = e
    return data(6, address(node) + struct.pack("!BBH", flags, code, value))


def objects(m):
    """The objects of a message, in the order of RFC 2205 section 3.1."""
    made = []

    def add(name, build):
        if name in m and name not in m.get("without", []):
            made.append(build(m[name]))

    add("session", session)
    add("hop", lambda h: RSVP_Object(Length=12, Class=3, C_Type=1) / RSVP_HOP(neighbor=h[0], inface=h[1]))
    add("refresh", lambda r: RSVP_Object(Length=8, Class=5, C_Type=1) / RSVP_Time(refresh=r))
    add("error", error)
    add("confirm", lambda a: data(15, address(a)))
    add("scope", lambda s: data(7, b"".join(sorted(address(a) for a in s))))
    for cls, ctype, body in m.get("extra", []):
        made.append(data(cls, bytes.fromhex(body), ctype))
    add("style", lambda s: data(8, struct.pack("!I", STYLES[s] if s in STYLES else int(s, 16))))
    add("sender", lambda f: filters(11, f))
    add("tspec", tspec)
    add("adspec", adspec)
    for flow in m.get("flows", []):
        if "flowspec" in flow:
            made.append(flowspec(flow["flowspec"]))
        for f in flow.get("filters", []):
            made.append(filters(10, f))
    return made


def build(m):
    kind = m["type"]
    rsvp = RSVP(Version=m.get("version", 1), Flags=m.get("flags", 0), Class=TYPES[kind] if kind in TYPES else int(kind),
                TTL=m.get("send_ttl", m["ttl"]))
    for o in objects(m):
        rsvp = rsvp / o
    body = bytearray(bytes(rsvp))
    if "cut" in m:  # the last bytes do not arrive
        del body[-m["cut"]:]
    for at, value in m.get("patch", []):
        raw = bytes.fromhex(value)
        body[at:at + len(raw)] = raw
    if m.get("patch") or "cut" in m:
        if not m.get("keep_checksum"):
            body = bytearray(resum(bytes(body)))
    options = [IPOption_Router_Alert()] if kind in ("path", "pathtear", "resvconf") else []
    return bytes(IP(src=m["src"], dst=m["dst"], ttl=m["ttl"], proto=46, options=options) / bytes(body))


def resum(body):
    """The checksum of a message that was changed, computed by scapy."""
    r = RSVP(body)
    r.chksum = None
    r.Length = struct.unpack("!H", body[6:8])[0]
    head = bytes(RSVP(Version=r.Version, Flags=r.Flags, Class=r.Class, chksum=0, TTL=r.TTL,
                      dataofs=r.dataofs, Length=r.Length))
    from scapy.layers.inet import checksum
    return head[:2] + struct.pack("!H", checksum(head + body[8:])) + head[4:] + body[8:]


def read(raw):
    """What scapy's layer finds in a packet."""
    p = IP(raw)
    rsvp = p[RSVP]
    out = {"type": rsvp.Class, "send_ttl": rsvp.TTL, "ttl": p.ttl, "src": p.src, "dst": p.dst,
           "alert": any(isinstance(o, IPOption_Router_Alert) for o in p.options), "objects": []}
    o = rsvp.payload
    while isinstance(o, RSVP_Object):
        inner = o.payload
        entry = {"class": o.Class, "ctype": o.C_Type, "length": o.Length}
        if isinstance(inner, RSVP_HOP):
            entry["neighbor"], entry["lih"] = inner.neighbor, inner.inface
        elif isinstance(inner, RSVP_Time):
            entry["refresh"] = inner.refresh
        elif isinstance(inner, RSVP_SenderTSPEC):
            entry["words"] = [inner.Data_Length, inner.Srv_hdr, inner.Srv_Length]
            entry["data"] = bytes(inner.Tokens).hex()
        elif isinstance(inner, RSVP_Data):
            entry["data"] = bytes(inner.Data).hex()
        out["objects"].append(entry)
        o = inner.payload
    return out


for line in sys.stdin:
    request = json.loads(line)
    if "build" in request:
        answer = {"packet": build(request["build"]).hex()}
    else:
        answer = read(bytes.fromhex(request["read"]))
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()

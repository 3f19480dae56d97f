"""What hccn_tool prints and /etc/hccn.conf holds, as data. Pure: text in, values out.

Outputs as in the vendor's HCCN Tool reference and in hccl:docs/zh/user_guide/fault_diagnosis/; no
text makes a parser fail.
"""

import ipaddress
import re

ADDRESS_LINE = re.compile(r"^\s*ip(?:v[46])?[ _]*addr\w*\s*[:=]\s*(\S+)", re.IGNORECASE | re.M)
CONF_LINE = re.compile(r"^\s*(?:IPv6)?address_([0-9]{1,4})\s*=\s*(\S+)", re.IGNORECASE | re.M)
LINK = re.compile(r"link\s+status\s*:\s*(\w+)", re.IGNORECASE)
HEALTH = re.compile(r"net\s+health\s+status\s*:\s*(\S[^\n]*)", re.IGNORECASE)
TLS = re.compile(r"tls\s+switch\s*\[\s*([01])\s*\]", re.IGNORECASE)


def parse_conf(text: str) -> dict[int, tuple[str, ...]]:
    """Addresses by physical card: ``address_0=192.168.10.21``, ``IPv6address_0=121::101``."""
    found: dict[int, list[str]] = {}
    for line in text.splitlines():
        match = CONF_LINE.match(line)
        address = valid_address(match[2]) if match else ""
        if match and address:
            found.setdefault(int(match[1]), []).append(address)
    return {card: tuple(dict.fromkeys(addresses)) for card, addresses in found.items()}


def parse_ip(text: str) -> tuple[str, ...]:
    """``hccn_tool -i N -ip -g``: ``ipaddr:192.168.1.100`` and ``netmask:255.255.255.0``."""
    addresses = (valid_address(match) for match in ADDRESS_LINE.findall(text))
    return tuple(dict.fromkeys(filter(None, addresses)))


def parse_link(text: str) -> str:
    """``hccn_tool -i N -link -g``: ``UP`` or ``DOWN``; empty if it does not say."""
    match = LINK.search(text)
    return match[1].upper() if match else ""


def parse_health(text: str) -> str:
    """``hccn_tool -i N -net_health -g``: ``Success``, ``Fault``, ...; empty if it does not say."""
    match = HEALTH.search(text)
    return match[1].strip() if match else ""


def parse_tls(text: str) -> bool | None:
    """``hccn_tool -i N -tls -g``: ``dev_id:0, tls switch[0](0:disable, 1:enable), ...``."""
    match = TLS.search(text)
    return match[1] == "1" if match else None


def valid_address(text: str) -> str:
    """The address as Python writes it; empty if it is none that a card can have."""
    try:
        address = ipaddress.ip_address(text.partition("/")[0].partition("%")[0])
    except ValueError:
        return ""
    return "" if address.is_unspecified or address.is_loopback else str(address)

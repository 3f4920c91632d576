"""Read `Sec-WebSocket-Extensions`: which extensions a client offers, with their parameters.

Source: RFC 6455 section 9.1; the words `token` and `quoted-string` are those of RFC 9110
section 5.6.
"""

import re
from typing import Final, TypeAlias

ExtensionOffer: TypeAlias = tuple[str, list[tuple[str, str | None]]]

TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"

# RFC 6455 section 9.1: what a quoted value means must be a token too.
_QUOTED: Final = rf'"((?:\\?{TOKEN[:-1]})+)"'

_match_gap: Final = re.compile(r"[ \t,]*").match
_match_name: Final = re.compile(rf"({TOKEN})[ \t]*").match
_match_parameter: Final = re.compile(
    rf";[ \t]*({TOKEN})[ \t]*(?:=[ \t]*(?:({TOKEN})|{_QUOTED})[ \t]*)?"
).match


def parse_extensions(value: str) -> list[ExtensionOffer]:
    """Read the field's value; several fields are joined by a comma first.

    >>> parse_extensions('permessage-deflate; server_max_window_bits="10", x-y; z')
    [('permessage-deflate', [('server_max_window_bits', '10')]), ('x-y', [('z', None)])]

    Raises:
        ValueError: the value does not follow the grammar.
    """
    offers: list[ExtensionOffer] = []
    position = 0
    while True:
        gap = _match_gap(value, position)
        if gap is not None:
            if offers and "," not in gap[0] and gap.end() < len(value):
                raise ValueError("malformed sec-websocket-extensions")
            position = gap.end()
        if position == len(value):
            return offers
        name = _match_name(value, position)
        if name is None:
            raise ValueError("malformed sec-websocket-extensions")
        position = name.end()
        parameters: list[tuple[str, str | None]] = []
        while parameter := _match_parameter(value, position):
            key, plain, quoted = parameter.groups()
            parameters.append((key, quoted.replace("\\", "") if quoted else plain))
            position = parameter.end()
        offers.append((name[1], parameters))

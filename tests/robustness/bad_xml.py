"""Binning files of the CaloChallenge that nobody should write: named ones, and random changes from a seed."""

import re

# 2 x 4 + 3 x 8 voxels
VALID = """<Bins>
  <Bin pid="11" etaMin="0" etaMax="130" name="electron">
    <Layer id="0" r_edges="0.0,5.0,10.0" n_bin_alpha="4"/>
    <Layer id="1" r_edges="0.0,5.0,10.0,20.0" n_bin_alpha="8"/>
  </Bin>
</Bins>
"""
VOXELS = 32


def layer(**changes):
    values = {"id": "0", "r_edges": "0.0,5.0,10.0", "n_bin_alpha": "4"} | changes
    text = " ".join(f'{name}="{value}"' for name, value in values.items() if value is not None)
    return f'<Bins><Bin pid="11"><Layer {text}/></Bin></Bins>'


ENTITIES = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
DOCUMENTS = {
    "nothing": "",
    "text": "hello",
    "cut": VALID[:90],
    "entities of entities": f'<!DOCTYPE b [<!ENTITY e0 "x">{ENTITIES}]><Bins><Bin pid="&e9;"/></Bins>',
    "an entity of a file":
        '<!DOCTYPE b [<!ENTITY f SYSTEM "file:///etc/passwd">]><Bins><Bin pid="&f;"/></Bins>',
    "another encoding": '<?xml version="1.0" encoding="none"?>' + VALID,
    "nested elements": "<Bins>" * 30_000,
    "two particles": VALID.replace("<Bin ", '<Bin pid="22"/><Bin '),
    "no layer": '<Bins><Bin pid="11"/></Bins>',
    "a foreign element": "<Bins><Script/></Bins>",
    "a huge pid": VALID.replace('"11"', f'"{"9" * 5000}"'),
    "pid 0": VALID.replace('"11"', '"0"'),
    "pid of text": VALID.replace('"11"', '"e-"'),
    "no id": layer(id=None),
    "an id of 5000 digits": layer(id="9" * 5000),
    "edges backwards": layer(r_edges="0,5,3"),
    "edges that are not finite": layer(r_edges="0,5,inf"),
    "edges that are no numbers": layer(r_edges="0,5,nan"),
    "edges of text": layer(r_edges="0,x"),
    "edges in full-width digits": layer(r_edges="0,\uff15"),
    "edges of a length that underflows": layer(r_edges="0,1e-320"),
    "200000 edges": layer(r_edges=",".join(map(str, range(200_000)))),
    "negative edges": layer(r_edges="-5,0,5"),
    "no sectors": layer(n_bin_alpha="0"),
    "negative sectors": layer(n_bin_alpha="-4"),
    "billions of sectors": layer(n_bin_alpha="4000000000"),
    "a fraction of a sector": layer(n_bin_alpha="1.5"),
    "20000 layers": "<Bins><Bin pid='11'>" + '<Layer id="0" r_edges="0,1" n_bin_alpha="1"/>' * 20_000
    + "</Bin></Bins>",
    "2 MB": VALID + " " * 2_000_000,
}  # fmt: skip
VALUES = [
    "",
    "-1",
    "0",
    "1.5",
    "nan",
    "inf",
    "1e308",
    "1e-308",
    "9" * 400,
    "x",
    "0,1,2",
    ",",
    "\u0661",
    "0x4",
]


def changed(rng):
    """The valid document with one to three attributes changed."""
    text = VALID
    for _ in range(int(rng.integers(1, 4))):
        found = list(re.finditer(r'"([^"]*)"', text))
        place = found[int(rng.integers(len(found)))]
        value = VALUES[int(rng.integers(len(VALUES)))]
        text = f'{text[: place.start()]}"{value}"{text[place.end() :]}'
    return text

"""One attack, in a process of its own: `python -m hostile.attacker NAME TARGET`, the target as JSON. Prints what it did."""

import asyncio
import json
import sys

from hostile.attacks.catalogue import ATTACKS
from hostile.priority import give_way
from hostile.target import Target

if __name__ == "__main__":
    give_way()
    print(asyncio.run(ATTACKS[sys.argv[1]](Target(**json.loads(sys.argv[2])))), flush=True)

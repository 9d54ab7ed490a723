"""One attack, in a process of its own: `python -m hostile.attacker NAME TARGET`, the target as JSON. Prints what it did."""

import asyncio
import json
import os
import sys

from hostile.attacks.catalogue import ATTACKS
from hostile.target import Target

# A hostile caller has a machine of its own: here it takes the processor time that the services and good clients leave.
_NICE = 15

if __name__ == "__main__":
    os.nice(_NICE)
    print(asyncio.run(ATTACKS[sys.argv[1]](Target(**json.loads(sys.argv[2])))), flush=True)

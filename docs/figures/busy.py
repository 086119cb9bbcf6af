"""Load one core at random, for seconds at a time: python docs/figures/busy.py &"""

import random
import time

random.seed(0)
while True:
    time.sleep(random.uniform(1, 6))
    end = time.monotonic() + random.uniform(1, 6)
    while time.monotonic() < end:
        pass

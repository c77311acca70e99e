import sys, time
from collections import Counter
from .patches import SHORT, install
install(SHORT)
from .rules import read_rules
from .server import running
from .world import World, collect
def main():
    first, count = int(sys.argv[1]), int(sys.argv[2])
    program = read_rules()
    tally = Counter(); steps=0
    began=time.perf_counter()
    with running() as server:
        for seed in range(first, first+count):
            world = World(seed, program, server)
            try:
                world.run()
            except Exception as e:
                import traceback; traceback.print_exc()
                print("seed", seed, world.options, world.loop.steps, world.loop.time())
            steps += world.loop.steps
            tally += world.tally
            if count < 6: print(seed, world.loop.steps, world.digest, world.loop.time())
            del world
    spent=time.perf_counter()-began
    print(steps, spent, steps/spent)
    for k,v in sorted(tally.items()): print("  ",k,v)
main()

"""How far a long work has come, told in lines."""

from screening.commands.progress import LINE_SECONDS, Stages


def test_a_log_hears_of_it_every_few_seconds() -> None:
    """Where a stage begins and ends, and in between no more often than that."""
    now, said = [100.0], list[str]()
    stages = Stages(said.append, None, clock=lambda: now[0])
    stages.begin("making", total=1_000, unit="numbers")
    for _ in range(11):
        now[0] += LINE_SECONDS / 2
        stages.add(10)
    stages.note("a server is gone")
    stages.begin("following")
    now[0] += 60
    stages.begin("reading", total=0, unit="events")
    assert said == [
        "making: 0.0% of 1,000 numbers",
        "making: 2.0% of 1,000 numbers, 4 a second, 4:05 left",
        "making: 4.0% of 1,000 numbers, 4 a second, 4:00 left",
        "making: 6.0% of 1,000 numbers, 4 a second, 3:55 left",
        "making: 8.0% of 1,000 numbers, 4 a second, 3:50 left",
        "making: 10.0% of 1,000 numbers, 4 a second, 3:45 left",
        "a server is gone",
        "making: 11.0% of 1,000 numbers, 4 a second, 3:42 left",
        "following",
        "reading",
    ]

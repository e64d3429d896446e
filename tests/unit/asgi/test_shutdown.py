from moonpool.asgi.shutdown import Shutdown
from moonpool.core.clock import ManualClock


def test_the_time_that_is_left() -> None:
    clock = ManualClock()
    shutdown = Shutdown(clock)
    assert (shutdown.begun, shutdown.remaining()) == (False, 0.0)
    shutdown.begin(30.0)
    clock.advance(10.0)
    assert (shutdown.begun, shutdown.remaining()) == (True, 20.0)
    shutdown.begin(30.0)
    assert shutdown.remaining() == 20.0
    clock.advance(25.0)
    assert shutdown.remaining() == 0.0

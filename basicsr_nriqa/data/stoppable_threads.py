"""Work in threads that ends as a whole: after an error or Ctrl-C no thread goes on."""
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed


def in_threads(function, items, workers):
    """``function(item, go_on)`` of all items.

    Args:
        function (Callable): Calls ``go_on()`` every now and then, which ends it where another one has failed or the
            user has pressed Ctrl-C.
        items (Sequence): What to work on.
        workers (int): Threads.

    Returns:
        list: The results, in order. What ``function`` raises is raised, after all threads have ended.
    """
    stop = threading.Event()

    def go_on():
        if stop.is_set():
            raise _Stopped

    with ThreadPoolExecutor(workers) as pool:
        try:
            futures = [pool.submit(function, item, go_on) for item in items]
            for future in as_completed(futures):
                future.result()
            return [future.result() for future in futures]
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def advance(bar, count=1):
    """Move a progress bar of tqdm that several threads share."""
    with bar.get_lock():
        bar.update(count)


class _Stopped(Exception):
    """Another thread has failed, or the user has stopped all."""

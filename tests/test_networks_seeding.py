import multiprocessing
import threading

import pytest
import torch

from skeeg.networks import minimum_times
from skeeg.networks.seeding import seeded


def test_a_block_depends_on_its_seed_alone_and_leaves_the_random_state():
    state = torch.get_rng_state()
    with seeded(3):
        first = torch.rand(4)
        with seeded(3):  # a block within a block of the same thread
            assert torch.equal(torch.rand(4), first)
    assert torch.equal(state, torch.get_rng_state())


def test_blocks_of_threads_wait_for_each_other():
    inside, done, found = threading.Event(), threading.Event(), []

    def other():
        inside.wait()
        minimum_times("EEGNet", n_chans=3, n_outputs=5)  # it draws from torch's generator, too
        with seeded(1):
            found.append(torch.rand(4))
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with seeded(0):
        first = torch.rand(4)
        inside.set()
        assert not done.wait(0.2)
        second = torch.rand(4)
    thread.join()
    with seeded(0):
        assert torch.equal(torch.rand(4), first) and torch.equal(torch.rand(4), second)
    with seeded(1):
        assert torch.equal(torch.rand(4), found[0])


def _block(queue):
    with seeded(0):
        queue.put(torch.rand(1).item())


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="the system does not fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_process_forked_within_a_block_of_another_thread_does_not_wait_for_ever():
    context = multiprocessing.get_context("fork")
    queue, inside, leave = context.SimpleQueue(), threading.Event(), threading.Event()

    def hold():
        with seeded(1):
            inside.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    child = context.Process(target=_block, args=(queue,))
    child.start()
    child.join(60)
    leave.set(), thread.join()
    alive = child.is_alive()
    child.kill()
    assert not alive
    with seeded(0):
        assert queue.get() == torch.rand(1).item()

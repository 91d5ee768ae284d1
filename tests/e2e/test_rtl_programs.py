"""Small programs that once went wrong."""

import pytest
from cores import CORES, rtl
from systolith import ModelDevice, Program, Slot
from systolith_hw.isa import Memory, ResultType, Scale

BYTES = 1 << 16
RESULT = 1 << 15


def agree(name, program, **options):
    """Model and Verilog leave the same memory."""
    memories = []
    for device in (ModelDevice(CORES[name], memory_bytes=BYTES),
                   rtl(name, memory_bytes=BYTES, max_cycles=50_000, **options)):
        with device:
            device.write(0, program.encode())
            device.run(0, len(program))
            memories.append(device.read(0, BYTES).tobytes())
    assert memories[0] == memories[1]
    assert any(memories[0][RESULT:])


@pytest.mark.parametrize("name", ["demo", "1x1", "1x16"])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_int8_results_right_after_int32_results(name, groups):
    # int32 results leave the pipeline earlier, and the next command may already stand behind.
    config = CORES[name]
    loops = config.control.execute_loops
    program = Program(config=config)
    for memory, rows, size, value in ((Memory.ACT, 32, config.act_row_bytes, 3),
                                      (Memory.WGT, 8, config.wgt_row_bytes, 5),
                                      (Memory.PAR, 8, config.par_row_bytes, 1)):
        program.fill(memory=memory, value=value, run_bytes=size, row=0, counts=[rows],
                     row_strides=[1], slots=[Slot(post="filled")] if memory == Memory.PAR else [])
    program.execute(counts=[4, *[1] * (loops - 1)], act_row=0, act_strides=[1] + [0] * (loops - 1),
                    acc_row=0, acc_strides=[1] + [0] * (loops - 1), wgt_row=0, k_last=1,
                    slots=[Slot(wait="filled", post="computed")])
    row = config.act_row_bytes // config.vector.lanes   # lane groups
    program.vector(result_type=ResultType.INT32, scale=Scale.UNIT, counts=[1, groups], source=0,
                   source_strides=[config.acc_group_pitch], result=8 * row,
                   result_strides=[4 * row], slots=[Slot(wait="computed")])
    program.vector(counts=[1, 3], source=0, source_strides=[config.acc_group_pitch],
                   result=24 * row, result_strides=[row], param_base=1,
                   slots=[Slot(post="written")])
    program.store(address=RESULT, run_bytes=20 * config.act_row_bytes, row=8,
                  row_bytes=config.act_row_bytes, slots=[Slot(wait="written")])
    agree(name, program, latency=5)

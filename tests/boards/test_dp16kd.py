"""The model of the ECP5's block RAM: what its guide says, and memories that Yosys maps to it."""

from itertools import product
from pathlib import Path

import pytest
import systolith_boards
from systolith_boards.netlist import netlist_verilog, read_netlist
from systolith_boards.synthesis import run_tool

from ..icarus import run_icarus

MODEL = Path(systolith_boards.__file__).parent / "cells" / "dp16kd.v"
PINS = {"DI": 18, "AD": 14, "CS": 3, "CE": 1, "OCE": 1, "WE": 1, "RST": 1}
X = "{9'b0, 9'bx}"  # a byte that is undefined


def behave(folder, steps, **parameters):
    """Run one DP16KD: each step sets pins, which stay, and says what is read after a clock edge.

    All is 0 at first but CE and OCE; ``edge=0`` leaves the edge out. Expectations are of DOA, DOB
    or DO, both together.
    """
    names = [prefix + port for prefix in PINS for port in "AB"]
    connections = [".CLKA(clk)", ".CLKB(clk)"]
    connections += [f".{name}{i if PINS[name[:-1]] > 1 else ''}({name}[{i}])"
                   for name in names for i in range(PINS[name[:-1]])]
    connections += [f".DO{port}{i}(DO[{i + 18 * (port == 'B')}])" for port in "AB"
                    for i in range(18)]
    values = [f'.{name}("{value}")' if isinstance(value, str) else f".{name}(320'd{value})"
              for name, value in parameters.items()]
    lines = ["module bench;", "reg clk = 0;"]
    lines += [f"reg [{PINS[name[:-1]] - 1}:0] {name} = {int('CE' in name)};" for name in names]
    lines += ["wire [35:0] DO;", "wire [17:0] DOA = DO[17:0], DOB = DO[35:18];",
              f"DP16KD #({', '.join(values)}) dut ({', '.join(connections)});", "initial begin"]
    for number, (pins, expected) in enumerate(steps):
        lines += [f"{name} = {value};" for name, value in pins.items() if name != "edge"]
        lines.append("#1;" if pins.get("edge") == 0 else "#1 clk = 1; #1 clk = 0; #1;")
        for name, value in expected.items():
            lines.append(f'if ({name} !== {value}) $display("step {number}: {name} must be '
                         f'%h, not %h", {value}, {name});')
    lines += ['$display("end");', "end", "endmodule"]
    (folder / "bench.v").write_text("\n".join(lines))
    assert run_icarus([MODEL, "bench.v"], folder) == "end\n"


WORD = 0x9_A5C3_F01E
WRITE = {"ADA": 5 << 5 | 15, "WEA": 1, "DIA": WORD & 0x3FFFF, "DIB": WORD >> 18}


LOW = {1: 0, 2: 1, 4: 2, 9: 3, 18: 4, 36: 5}  # address bits below a word's


def words(width):
    """Address of each word in a row, and its first bit: bytes have nine, narrow words use eight."""
    in_byte = max(8 // width, 1)
    count = 36 // width if width > 8 else 4 * in_byte
    return [(part << LOW[width],
             part * width if width > 8 else part // in_byte * 9 + part % in_byte * width)
            for part in range(count)]


@pytest.mark.parametrize("width", LOW)
def test_a_row_is_read_in_words_of_every_width(tmp_path, width):
    steps = [(WRITE, {}), ({"WEA": 0}, {})]
    steps += [({"ADB": 5 << 5 | address}, {"DO" if width == 36 else "DOB":
                                           WORD >> bit & (1 << width) - 1})
              for address, bit in words(width)]
    behave(tmp_path, steps, DATA_WIDTH_A=36, DATA_WIDTH_B=width)


@pytest.mark.parametrize("width", [1, 2, 4, 9, 18])
def test_a_row_is_written_in_words_of_every_width(tmp_path, width):
    steps, row = [], 0
    for address, bit in words(width)[::-1]:
        data = WORD >> bit & (1 << width) - 1
        row |= data << bit
        enables = 3 if width == 18 else 0
        steps.append(({"WEB": 1, "DIB": data, "ADB": 7 << 5 | address | enables}, {}))
        steps += [({"WEB": 0, "ADA": 7 << 5 | half << 4}, {"DOA": row >> 18 * half & 0x3FFFF})
                  for half in range(2)]
    behave(tmp_path, steps, DATA_WIDTH_A=18, DATA_WIDTH_B=width)


@pytest.mark.parametrize("width, lanes", [(18, 2), (36, 4)])
def test_enables_choose_the_bytes_that_are_written(tmp_path, width, lanes):
    steps, row = [], 0
    for enables in range(1 << lanes):
        data = WORD * (2 * enables + 1)
        steps.append(({"WEA": 1, "ADA": 9 << 5 | enables, "DIA": data & 0x3FFFF,
                       "DIB": data >> 18 & 0x3FFFF}, {}))
        for lane in range(lanes):
            if enables >> lane & 1:
                row = row & ~(0o777 << 9 * lane) | data & 0o777 << 9 * lane
        steps.append(({"WEA": 0, "ADB": 9 << 5}, {"DO": row}))
    behave(tmp_path, steps, DATA_WIDTH_A=width, DATA_WIDTH_B=36)


@pytest.mark.parametrize("mode, seen", [("NORMAL", 7), ("WRITETHROUGH", 9), ("READBEFOREWRITE", 3)])
def test_a_port_shows_beside_its_write_what_the_mode_says(tmp_path, mode, seen):
    steps = [({"WEA": 1, "ADA": 8, "DIA": 7}, {}), ({"ADA": 16, "DIA": 3}, {}),
             ({"WEA": 0, "ADA": 8}, {"DOA": 7}),
             ({"WEA": 1, "ADA": 16, "DIA": 9}, {"DOA": seen}),
             ({"WEA": 0}, {"DOA": 9})]
    behave(tmp_path, steps, DATA_WIDTH_A=9, DATA_WIDTH_B=9, WRITEMODE_A=mode)


def test_a_port_that_is_not_enabled_keeps_its_output_and_does_not_write(tmp_path):
    steps = [({"WEA": 1, "ADA": 8, "DIA": 7}, {}), ({"WEA": 0}, {"DOA": 7}),
             ({"CEA": 0, "WEA": 1, "DIA": 1}, {"DOA": 7}),
             ({"WEA": 0, "ADA": 16}, {"DOA": 7}), ({"CEA": 1, "ADA": 8}, {"DOA": 7})]
    behave(tmp_path, steps, DATA_WIDTH_A=9, DATA_WIDTH_B=9)


def test_an_output_register_is_a_cycle_later_and_has_its_own_enable(tmp_path):
    steps = [({"WEB": 1, "ADB": 8, "DIB": 7}, {}), ({"ADB": 16, "DIB": 3}, {}),
             ({"WEB": 0, "ADB": 8}, {}), ({"ADB": 16}, {"DOB": 7}), ({"OCEB": 0}, {"DOB": 7}),
             ({"OCEB": 1, "CEB": 0}, {"DOB": 3})]
    behave(tmp_path, steps, DATA_WIDTH_A=9, DATA_WIDTH_B=9, REGMODE_B="OUTREG")


def test_a_port_is_selected_by_its_code(tmp_path):
    steps = [({"CSA": 5, "WEA": 1, "ADA": 8, "DIA": 7}, {}), ({"WEA": 0}, {"DOA": 7})]
    steps += [({"CSA": code, "WEA": 1, "DIA": 1}, {"DOA": 7}) for code in (0, 1, 2, 3, 4, 6, 7)]
    steps += [({"CSA": 5, "WEA": 0, "ADA": 8}, {"DOA": 7})]
    behave(tmp_path, steps, DATA_WIDTH_A=9, DATA_WIDTH_B=9, CSDECODE_A="0b101")


@pytest.mark.parametrize("register", ["NOREG", "OUTREG"])
def test_a_synchronous_reset_clears_the_output_at_the_edge(tmp_path, register):
    steps = [({"WEA": 1, "ADA": 8, "DIA": 7}, {}), ({"WEA": 0}, {}), ({}, {"DOA": 7}),
             ({"RSTA": 1, "edge": 0}, {"DOA": 7}), ({"CEA": 0}, {"DOA": 0}),
             ({"CEA": 1, "WEA": 1, "DIA": 1}, {"DOA": 0}),  # does not write
             ({"RSTA": 0, "WEA": 0}, {}), ({}, {"DOA": 7})]
    behave(tmp_path, steps, DATA_WIDTH_A=9, DATA_WIDTH_B=9, REGMODE_A=register)


def test_an_asynchronous_reset_clears_the_output_at_once(tmp_path):
    steps = [({"WEA": 1, "ADA": 8, "DIA": 7}, {}), ({"WEA": 0}, {"DOA": 7}),
             ({"RSTA": 1, "edge": 0}, {"DOA": 0}), ({}, {"DOA": 0}),
             ({"RSTA": 0, "edge": 0}, {"DOA": 0}), ({}, {"DOA": 7})]
    behave(tmp_path, steps, DATA_WIDTH_A=9, DATA_WIDTH_B=9, RESETMODE="ASYNC")


def test_what_meets_a_write_of_the_other_port_is_undefined(tmp_path):
    steps = [({"WEA": 1, "ADA": 8, "DIA": 7}, {}),
             ({"ADB": 8}, {"DOB": X}),                        # reads what A writes
             ({"ADA": 16, "DIA": 3}, {"DOB": 7}),             # another word of the row
             ({"WEA": 0, "WEB": 1, "ADB": 24, "DIB": 5}, {"DOA": 3}),
             ({"WEA": 1, "ADA": 24}, {}),                     # both write
             ({"WEA": 0, "WEB": 0}, {"DOA": X}),
             ({"WEA": 1, "WEB": 1, "ADA": 0, "ADB": 8, "DIA": 1, "DIB": 2}, {}),
             ({"WEA": 0, "WEB": 0}, {"DOA": 1, "DOB": 2})]
    behave(tmp_path, steps, DATA_WIDTH_A=9, DATA_WIDTH_B=9)


def test_contents_begin_as_they_are_given(tmp_path):
    value = 0x2BEEF << 20 | 0x1CAFE  # two words of 18 bits, 20 bits apart
    steps = [({"ADA": (3 * 16 + half) << 4}, {"DOA": word})
             for half, word in enumerate((0x1CAFE, 0x2BEEF))]
    behave(tmp_path, [*steps, ({"ADA": 0}, {"DOA": 0})], INITVAL_03=value)


def test_a_clock_may_be_inverted(tmp_path):
    steps = [({"WEA": 1, "ADA": 8, "DIA": 7}, {}), ({"WEA": 0}, {"DOA": 7})]
    behave(tmp_path, steps, DATA_WIDTH_A=9, DATA_WIDTH_B=9, CLKAMUX="INV", CLKBMUX="INV")


# Memories as Yosys maps them: one clock, random everything, and what it adds for reads that meet
# writes. What the memory as it was written reads undefined is not compared.

SIMPLE = """
module simple #(parameter A = 9, W = 36, G = 36) (
  input clk, input [13:0] wa, ra, input [W - 1:0] d, input [W / G - 1:0] we, input re,
  output reg [W - 1:0] q
);
  (* ram_style = "block" *) reg [W - 1:0] mem [0:(1 << A) - 1];
  integer i;
  initial if (A < 12) for (i = 0; i < 1 << A; i = i + 1) mem[i] = {3{i * 32'h9E3779B1}} >> 17;
  always @(posedge clk) begin
    for (i = 0; i < W / G; i = i + 1) if (we[i]) mem[wa[A - 1:0]][i * G +: G] <= d[i * G +: G];
    if (re) q <= mem[ra[A - 1:0]];
  end
endmodule
"""
UNLIKE = """
module unlike #(parameter A = 11, N = 9, L = 2, R = 1 << L, WIDE = 0) (
  input clk, input [13:0] wa, ra, input [N * R - 1:0] d, input we, re,
  output reg [N * R - 1:0] q
);
  (* ram_style = "block" *) reg [N - 1:0] mem [0:(1 << A) - 1];
  integer i;
  initial if (A < 12) for (i = 0; i < 1 << A; i = i + 1) mem[i] = i * 32'h9E3779B1 >> 17;
  always @(posedge clk)
    if (WIDE) begin
      if (we) mem[wa[A - 1:0]] <= d[N - 1:0];
      for (i = 0; i < R; i = i + 1) if (re) q[i * N +: N] <= mem[{ra[A - 1:L], i[L - 1:0]}];
    end else begin
      for (i = 0; i < R; i = i + 1) if (we) mem[{wa[A - 1:L], i[L - 1:0]}] <= d[i * N +: N];
      if (re) q <= mem[ra[A - 1:0]];
    end
endmodule
"""
TWO = """
module two #(parameter A = 10, W = 18, MODE = 0) (
  input clk, input [13:0] wa, ra, input [2 * W - 1:0] d, input [1:0] we, input re,
  output reg [2 * W - 1:0] q
);
  (* ram_style = "block" *) reg [W - 1:0] mem [0:(1 << A) - 1];
  wire apart = wa[A - 1:0] != ra[A - 1:0];  // the second port keeps away from the first
  integer i;
  initial if (A < 12) for (i = 0; i < 1 << A; i = i + 1) mem[i] = i * 32'h9E3779B1 >> 13;
  always @(posedge clk) begin
    if (we[0]) mem[wa[A - 1:0]] <= d[W - 1:0];
    if (MODE == 0) begin if (!we[0]) q[W - 1:0] <= mem[wa[A - 1:0]]; end
    else if (MODE == 1) q[W - 1:0] <= we[0] ? d[W - 1:0] : mem[wa[A - 1:0]];
    else q[W - 1:0] <= mem[wa[A - 1:0]];
  end
  always @(posedge clk)
    if (apart) begin
      if (we[1]) mem[ra[A - 1:0]] <= d[2 * W - 1:W];
      if (MODE == 0) begin if (!we[1]) q[2 * W - 1:W] <= mem[ra[A - 1:0]]; end
      else if (MODE == 1) q[2 * W - 1:W] <= we[1] ? d[2 * W - 1:W] : mem[ra[A - 1:0]];
      else q[2 * W - 1:W] <= mem[ra[A - 1:0]];
    end
endmodule
"""
# Text, parameters, bits of data, write enables, and the cells' widths.
MAPPED = [
    *((SIMPLE, {"A": a, "W": w, "G": g}, w, w // g, {(c, c)}) for a, w, g, c in (
        (14, 1, 1, 1), (13, 2, 2, 2), (12, 4, 4, 4), (11, 9, 9, 9), (10, 18, 18, 18),
        (9, 36, 36, 36), (9, 36, 9, 36), (10, 18, 9, 18), (11, 27, 9, 9))),
    *((UNLIKE, {"A": 11, "N": 9, "L": many, "WIDE": wide}, 9 << many, 1,
       {widths}) for many, wide, widths in (
           (1, 0, (18, 9)), (1, 1, (9, 18)), (2, 0, (36, 9)), (2, 1, (36, 36)))),
    *((TWO, {"A": a, "W": w, "MODE": mode}, 2 * w, 2, {(w, w)})
      for (a, w), mode in product(((10, 18), (11, 9), (12, 4)), range(3))),
]
NAMES = ["-".join([text.split()[1], *(f"{name}{value}" for name, value in parameters.items())])
         for text, parameters, *_ in MAPPED]
PORTS = "input clk, re, input [13:0] wa, ra, input [35:0] d, input [3:0] we"


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """All of them side by side: widths of the cells by memory, and what the bench says."""
    folder = tmp_path_factory.mktemp("mapped")
    outputs = [f"q{i}" for i in range(len(MAPPED))]
    declared = ", ".join(f"output [{width - 1}:0] {q}"
                         for q, (_, _, width, *_) in zip(outputs, MAPPED, strict=True))
    lines = [SIMPLE, UNLIKE, TWO, f"module top ({PORTS}, {declared});"]
    for i, (text, parameters, width, enables, _) in enumerate(MAPPED):
        chosen = ", ".join(f".{key}({value})" for key, value in parameters.items())
        lines.append(f"{text.split()[1]} #({chosen}) m{i} (.clk(clk), .wa(wa), .ra(ra), .re(re), "
                     f".d(d[{width - 1}:0]), .we(we[{enables - 1}:0]), .q(q{i}));")
    (folder / "memories.v").write_text("\n".join([*lines, "endmodule", ""]))
    script = "read_verilog memories.v; synth_ecp5 -nolutram -top top; write_json top.json"
    run_tool("yosys", ["-q", "-p", script], folder)
    module = read_netlist(folder / "top.json")
    (folder / "netlist.v").write_text(
        netlist_verilog(module, "ecp5").replace("module top", "module netlist", 1))
    wires = "".join(f"wire [{width - 1}:0] q{i}, wanted{i};\ninteger differ{i} = 0, known{i} = 0;\n"
                    for i, (_, _, width, *_) in enumerate(MAPPED))
    compare = "\n".join(
        f"known{i} = known{i} + (^wanted{i} !== 1'bx);\n"
        f"if (((wanted{i} ^ wanted{i}) | q{i}) !== ((wanted{i} ^ wanted{i}) | wanted{i}))\n"
        f"differ{i} = differ{i} + 1;" for i in range(len(MAPPED)))
    pins = ", ".join(f".{name}({name})" for name in ("clk", "re", "wa", "ra", "d", "we"))
    (folder / "bench.v").write_text(f"""
module bench;
  reg clk = 0, re;
  reg [13:0] wa, ra;
  reg [35:0] d;
  reg [3:0] we;
  {wires}
  integer i, seed = 1;
  top memories ({pins}, {", ".join(f".{q}(wanted{i})" for i, q in enumerate(outputs))});
  netlist cells ({pins}, {", ".join(f".{q}({q})" for q in outputs)});
  initial begin
    for (i = 0; i < 1500; i = i + 1) begin
      {{wa, ra, re}} = $random(seed);
      {{d, we}} = {{$random(seed), $random(seed)}};
      if (i % 3) {{wa[13:3], ra[13:3]}} = 0;  // often the same word
      #1 clk = 1; #1 clk = 0;
      #1 {compare}
    end
    {" ".join(f'$display("%0d %0d", differ{i}, known{i});' for i in range(len(MAPPED)))}
  end
endmodule
""")
    said = run_icarus(["memories.v", "netlist.v", "bench.v"], folder, options=("-g2005",))
    widths = [{tuple(int(cell["parameters"][f"DATA_WIDTH_{port}"], 2) for port in "AB")
               for name, cell in module["cells"].items()
               if cell["type"] == "DP16KD" and name.startswith(f"m{i}.")}
              for i in range(len(MAPPED))]
    return widths, [tuple(map(int, line.split())) for line in said.splitlines()]


@pytest.mark.parametrize("number", range(len(MAPPED)), ids=NAMES)
def test_a_mapped_memory_is_the_memory(mapped, number):
    widths, counts = mapped
    assert widths[number] == MAPPED[number][-1]
    differ, known = counts[number]
    assert differ == 0
    assert known > 500

"""What a newcomer needs beside the Verilog: how to instantiate it, and a bench that tries it."""

import re
from importlib import metadata

from .config import CoreConfig
from .isa import COMMAND_BYTES
from .registers import COUNTERS, REGISTERS, constants

__all__ = ["hex_text", "instantiation", "ports_of", "smoke_files"]

PAGE_BYTES = 4096


def ports_of(verilog: str, name: str) -> list[tuple[str, str, int]]:
    """Direction, name and width of the ports of module ``name``, in order.

    Raises
    ------
    ValueError
        There is no such module.
    """
    match = re.search(rf"^module {name}\((.*?)\);\n(.*?)^endmodule", verilog, re.M | re.S)
    if not match:
        raise ValueError(f"name must be a module of the text, not {name!r}")
    found = {port: (direction, port, int(high or 0) + 1) for direction, high, port in
             re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);$", match[2], re.M)}
    return [found[port.strip()] for port in match[1].split(",")]


def instantiation(verilog: str, *, name: str) -> str:
    """Verilog that declares a wire for every port of ``name`` and instantiates it."""
    ports = ports_of(verilog, name)
    declarations = [f"  wire {_range(width)}{port};  // {direction}"
                    for direction, port, width in ports]
    connections = ",\n".join(f"    .{port}({port})" for _, port, _ in ports)
    return "\n".join([
        f"// {name}: copy into your design, then drive what the core reads.",
        *declarations, f"  {name} u_{name} (", connections, "  );", ""])


def hex_text(data: bytes, *, address: int = 0) -> str:
    """``data`` as bytes for ``$readmemh``, from ``address``."""
    lines = [f"@{address:x}"]
    lines += [data[i:i + 32].hex(" ") for i in range(0, len(data), 32)]
    return "\n".join(lines) + "\n"


def smoke_files(config: CoreConfig, verilog: str, *, image: bytes, program_address: int,
                commands: int, expected: bytes, expected_address: int,
                max_cycles: int = 1_000_000) -> dict[str, str]:
    """A self-checking bench in plain Verilog, with the memory contents it needs.

    The bench reads the identification registers, runs a program over an AXI4 memory of its own,
    compares the memory with what is expected, prints PASS or FAIL, and finishes in any case.

    Parameters
    ----------
    config : CoreConfig
    verilog : str
        The core's text.
    image : bytes
        Memory before the run, from address 0: program, weights, operands.
    program_address, commands : int
        Where the program lies in it, and its number of commands.
    expected : bytes
        Memory after the run, from ``expected_address``.
    max_cycles : int
        Clock cycles after which the bench fails.

    Returns
    -------
    dict of str to str
        Texts by file name: ``<core>_smoke_tb.v`` and the two hexadecimal files it reads from the
        directory it is run in.

    Raises
    ------
    ValueError
        The program does not lie in the image.
    """
    if program_address % COMMAND_BYTES:
        raise ValueError(f"program_address must be a multiple of {COMMAND_BYTES}, "
                         f"not {program_address!r}")
    if not 0 <= program_address <= len(image) - commands * COMMAND_BYTES:
        raise ValueError(f"program_address must leave {commands} commands inside the image of "
                         f"{len(image)} bytes, not {program_address!r}")
    end = max(len(image), expected_address + len(expected), 1)
    name = config.name
    ports = ports_of(verilog, name)
    inputs = {port for direction, port, _ in ports if direction == "input"}
    checks = "\n".join(f"    expect_register(12'h{REGISTERS[register].offset:03x}, "
                       f"32'h{value:08x});"
                       for register, value in constants(config).items())
    offsets = {register: f"12'h{REGISTERS[register].offset:03x}" for register in REGISTERS}
    bits = REGISTERS["status"].bits
    bench = _BENCH.format(
        name=name, generator=f"Systolith {metadata.version('systolith')}",
        memory_bytes=-(-end // PAGE_BYTES) * PAGE_BYTES, bytes=config.bus.data_bytes,
        expected_address=expected_address, expected_bytes=len(expected), max_cycles=max_cycles,
        declarations="\n".join(f"  {'reg ' if port in inputs else 'wire'} {_range(width)}{port};"
                               for _, port, width in ports),
        connections=",\n".join(f"    .{port}({port})" for _, port, _ in ports),
        zeros="\n".join(f"    {port} = 0;" for port in
                        sorted(inputs - {"clk", "rst"})),
        checks=checks, program=program_address, commands=commands,
        done=bits.index("done"), cycles=f"12'h{COUNTERS['cycles'].offset:03x}",
        events=1 << REGISTERS["interrupt_enable"].bits.index("done")
        | 1 << REGISTERS["interrupt_enable"].bits.index("error"),
        start=1 << REGISTERS["control"].bits.index("start"), **offsets)
    return {
        f"{name}_smoke_tb.v": bench,
        f"{name}_smoke_image.hex": hex_text(image),
        f"{name}_smoke_expected.hex": hex_text(expected),
    }


def _range(width: int) -> str:
    return f"[{width - 1}:0] " if width > 1 else ""


_BENCH = """\
// {name}: smoke test, generated by {generator}. Do not edit.
// Run it where {name}_smoke_image.hex and {name}_smoke_expected.hex are.
module {name}_smoke_tb;
  localparam MEMORY_BYTES = {memory_bytes};
  localparam WORD_BYTES = {bytes};
  localparam EXPECTED_ADDRESS = {expected_address};
  localparam EXPECTED_BYTES = {expected_bytes};
  localparam MAX_CYCLES = {max_cycles};

{declarations}

  {name} dut (
{connections}
  );

  reg [7:0] memory [0:MEMORY_BYTES - 1];
  reg [7:0] expected [0:EXPECTED_BYTES];
  integer errors;
  integer i;

  initial clk = 0;
  always #5 clk = ~clk;

  // AXI4 memory: one burst at a time in each direction, no wait states.
  reg reading;
  reg writing;
  reg [7:0] read_left;
  reg [31:0] read_address;
  reg [31:0] write_address;
  integer r;
  integer w;

  always @(posedge clk) begin
    if (rst) begin
      reading <= 0;
      m_axi_arready <= 0;
      m_axi_rvalid <= 0;
    end else if (!reading) begin
      m_axi_arready <= 1;
      if (m_axi_arvalid && m_axi_arready) begin
        m_axi_arready <= 0;
        reading <= 1;
        read_address <= m_axi_araddr;
        read_left <= m_axi_arlen;
        m_axi_rid <= m_axi_arid;
      end
    end else if (!m_axi_rvalid || m_axi_rready) begin
      if (m_axi_rvalid && m_axi_rlast) begin
        m_axi_rvalid <= 0;
        m_axi_rlast <= 0;
        reading <= 0;
      end else begin
        for (r = 0; r < WORD_BYTES; r = r + 1)
          m_axi_rdata[8 * r +: 8] <= memory[(read_address + r) % MEMORY_BYTES];
        m_axi_rresp <= read_address < MEMORY_BYTES ? 2'b00 : 2'b11;
        m_axi_rvalid <= 1;
        m_axi_rlast <= read_left == 0;
        read_left <= read_left - 8'd1;
        read_address <= read_address + WORD_BYTES;
      end
    end
  end

  always @(posedge clk) begin
    if (rst) begin
      writing <= 0;
      m_axi_awready <= 0;
      m_axi_wready <= 0;
      m_axi_bvalid <= 0;
    end else if (m_axi_bvalid) begin
      if (m_axi_bready)
        m_axi_bvalid <= 0;
    end else if (!writing) begin
      m_axi_awready <= 1;
      if (m_axi_awvalid && m_axi_awready) begin
        m_axi_awready <= 0;
        m_axi_wready <= 1;
        writing <= 1;
        write_address <= m_axi_awaddr;
        m_axi_bid <= m_axi_awid;
        m_axi_bresp <= 0;
      end
    end else if (m_axi_wvalid && m_axi_wready) begin
      for (w = 0; w < WORD_BYTES; w = w + 1)
        if (m_axi_wstrb[w] && write_address < MEMORY_BYTES)
          memory[write_address + w] <= m_axi_wdata[8 * w +: 8];
      if (write_address >= MEMORY_BYTES)
        m_axi_bresp <= 2'b11;
      write_address <= write_address + WORD_BYTES;
      if (m_axi_wlast) begin
        m_axi_wready <= 0;
        m_axi_bvalid <= 1;
        writing <= 0;
      end
    end
  end

  // Registers over AXI4-Lite: driven at the falling edge, sampled just before the rising one.
  reg aw_taken;
  reg w_taken;
  reg ar_taken;
  reg answered;
  reg [31:0] value_read;

  task write_register(input [11:0] offset, input [31:0] value);
    begin
      s_axil_awaddr = offset;
      s_axil_awvalid = 1;
      s_axil_wdata = value;
      s_axil_wstrb = 4'hf;
      s_axil_wvalid = 1;
      s_axil_bready = 1;
      answered = 0;
      while (!answered) begin
        #4;
        aw_taken = s_axil_awready;
        w_taken = s_axil_wready;
        answered = s_axil_bvalid;
        @(negedge clk);
        if (aw_taken)
          s_axil_awvalid = 0;
        if (w_taken)
          s_axil_wvalid = 0;
      end
      s_axil_bready = 0;
    end
  endtask

  task read_register(input [11:0] offset);
    begin
      s_axil_araddr = offset;
      s_axil_arvalid = 1;
      s_axil_rready = 1;
      answered = 0;
      while (!answered) begin
        #4;
        ar_taken = s_axil_arready;
        answered = s_axil_rvalid;
        value_read = s_axil_rdata;
        @(negedge clk);
        if (ar_taken)
          s_axil_arvalid = 0;
      end
      s_axil_rready = 0;
    end
  endtask

  task expect_register(input [11:0] offset, input [31:0] value);
    begin
      read_register(offset);
      if (value_read !== value) begin
        $display("register %h must be %h, not %h", offset, value, value_read);
        errors = errors + 1;
      end
    end
  endtask

  initial begin
    errors = 0;
    for (i = 0; i < MEMORY_BYTES; i = i + 1)
      memory[i] = 0;
    $readmemh("{name}_smoke_image.hex", memory);
    $readmemh("{name}_smoke_expected.hex", expected);
{zeros}
    rst = 1;
    repeat (8) @(negedge clk);
    rst = 0;
    @(negedge clk);

{checks}
    write_register({window_low}, 0);
    write_register({window_high}, 0);
    write_register({window_bytes}, MEMORY_BYTES);
    write_register({program_address}, {program});
    write_register({program_commands}, {commands});
    write_register({interrupt_enable}, {events});
    write_register({control}, {start});
    while (!irq)
      @(negedge clk);
    read_register({status});
    if (!value_read[{done}]) begin
      read_register({error_code});
      $display("the core must be done, not stop with error %0d", value_read);
      read_register({error_index});
      $display("  at command %0d", value_read);
      errors = errors + 1;
    end
    for (i = 0; i < EXPECTED_BYTES; i = i + 1)
      if (memory[EXPECTED_ADDRESS + i] !== expected[i]) begin
        if (errors < 10)
          $display("address %h must hold %h, not %h", EXPECTED_ADDRESS + i, expected[i],
                   memory[EXPECTED_ADDRESS + i]);
        errors = errors + 1;
      end
    read_register({cycles});
    if (errors == 0)
      $display("PASS: {name}, %0d cycles", value_read);
    else
      $display("FAIL: {name}, %0d errors", errors);
    $finish;
  end

  initial begin
    repeat (MAX_CYCLES) @(posedge clk);
    $display("FAIL: {name}, no end within %0d cycles", MAX_CYCLES);
    $finish;
  end
endmodule
"""

// Pins of an SDRAM in front of LiteDRAM's memory model, and what a data sheet asks of who drives
// them: the order of the initialisation, rows open where they are used and closed elsewhere.
module memory_chip (
  input clk, input clk_en, input cs, input ras, input cas, input we,
  input [BANK_BITS-1:0] ba, input [ADDRESS_BITS-1:0] a, input [DATA_BITS/8-1:0] dqm,
  inout [DATA_BITS-1:0] dq,
  output reg [7:0] failure,     // number of the first rule that was broken
  output reg [ADDRESS_BITS-1:0] mode,
  output reg [31:0] modes, output reg [31:0] refreshes, output reg [31:0] gap
);
  localparam BANKS = 1 << BANK_BITS;
  wire [2:0] command = clk_en && !cs ? {ras, cas, we} : 3'b111;
  localparam MODE = 3'b000, REFRESH = 3'b001, PRECHARGE = 3'b010, ACTIVATE = 3'b011,
             WRITE = 3'b100, READ = 3'b101, NOP = 3'b111;
  reg [BANKS-1:0] opened = 0;
  reg [31:0] clocks = 0, since = 0;
  reg precharged = 0, prepared = 0;
  reg [1:0] driven = 0;         // in the two cycles to come
  reg [1:0] masked = 0;         // words that are read, two cycles later
  reg [DATA_BITS-1:0] found = 0, later = 0;
  wire [DATA_BITS-1:0] fetched;
  wire fetches, violated;
  initial begin
    failure = 0; mode = 0; modes = 0; refreshes = 0; gap = 0;
  end

  memory_model model (
    .sys_clk(clk), .sys_rst(1'b0), .violated(violated),
    .dfi_p0_address(a), .dfi_p0_bank(ba), .dfi_p0_cs_n(!clk_en || cs), .dfi_p0_ras_n(ras),
    .dfi_p0_cas_n(cas), .dfi_p0_we_n(we), .dfi_p0_wrdata(dq), .dfi_p0_wrdata_mask(dqm),
    .dfi_p0_rddata(fetched), .dfi_p0_rddata_valid(fetches));

  // Latency of 2 or 3; the model itself takes 1.
  wire [2:0] latency = mode[6:4];
  wire drives = (latency == 2 ? driven[0] : driven[1]) && !masked[1];
  assign dq = drives ? (latency == 2 ? found : later) : {DATA_BITS{1'bz}};

  task broken(input [7:0] rule);
    if (failure == 0) failure <= rule;
  endtask

  always @(posedge clk) begin
    clocks <= clocks + clk_en;
    driven <= {driven[0], fetches};
    masked <= {masked[0], |dqm};
    found <= fetched;
    later <= found;
    since <= since + 1;
    if (violated) broken(1);
    if (command != NOP && clocks < POWER_UP) broken(2);
    case (command)
      MODE: begin
        if (!precharged || opened != 0) broken(3);
        mode <= a;
        modes <= modes + 1;
        prepared <= refreshes >= 2;
      end
      REFRESH: begin
        if (!precharged || opened != 0) broken(4);
        refreshes <= refreshes + 1;
        since <= 0;
        if (prepared && since > gap) gap <= since;
      end
      PRECHARGE:
        if (a[10]) begin opened <= 0; precharged <= 1; end
        else opened[ba] <= 0;
      ACTIVATE: begin
        if (!prepared) broken(5);
        if (opened[ba]) broken(6);
        opened[ba] <= 1;
      end
      WRITE, READ: begin
        if (!opened[ba]) broken(7);
        if (drives && command == WRITE) broken(8);
        if (a[10]) opened[ba] <= 0;
      end
      NOP: ;
      default: broken(9);
    endcase
  end
endmodule

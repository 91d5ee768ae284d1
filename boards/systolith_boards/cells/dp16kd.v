// DP16KD, the block RAM of the ECP5: 512 rows of 36 bits behind two ports.
// After Lattice FPGA-TN-02204, "ECP5 and ECP5-5G Memory Usage Guide": widths 1, 2, 4, 9, 18 and 36,
// byte enables in the lowest address bits of 18 and 36, the three write modes, output registers,
// chip selects, and resets. Port A of width 36 only writes, {DIB, DIA}; port B of width 36 only
// reads, {DOB, DOA}. Pins, order of lanes, and what a reset does to a port are as Yosys has them
// (lattice/brams_map_16kd.v, brams_16kd.txt); words of 1, 2 and 4 bits lie in the lower eight of
// nine. Bits that one port reads and the other writes at the same edge are undefined, and so are
// those that both write; a simulator without undefined values has random ones. Both ports' clocks
// are taken to be one. Not modelled: inverted pins but the clocks, GSR.
module DP16KD (
  input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5,
  DIA4, DIA3, DIA2, DIA1, DIA0,
  input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
  input CEA, OCEA, CLKA, WEA, RSTA, CSA2, CSA1, CSA0,
  input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5,
  DIB4, DIB3, DIB2, DIB1, DIB0,
  input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
  input CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
  output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5,
  DOA4, DOA3, DOA2, DOA1, DOA0,
  output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5,
  DOB4, DOB3, DOB2, DOB1, DOB0
);
  parameter DATA_WIDTH_A = 18;
  parameter DATA_WIDTH_B = 18;
  parameter REGMODE_A = "NOREG";
  parameter REGMODE_B = "NOREG";
  parameter [39:0] CSDECODE_A = "0b000";
  parameter [39:0] CSDECODE_B = "0b000";
  parameter WRITEMODE_A = "NORMAL";
  parameter WRITEMODE_B = "NORMAL";
  parameter CLKAMUX = "CLKA";
  parameter CLKBMUX = "CLKB";
  parameter RESETMODE = "SYNC";
  parameter ASYNC_RESET_RELEASE = "SYNC";
  parameter GSR = "ENABLED";
  parameter INIT_DATA = "STATIC";
  parameter WID = 0;
  parameter [319:0]
    INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0, INITVAL_04 = 0, INITVAL_05 =
    0, INITVAL_06 = 0, INITVAL_07 = 0, INITVAL_08 = 0, INITVAL_09 = 0, INITVAL_0A = 0, INITVAL_0B
    = 0, INITVAL_0C = 0, INITVAL_0D = 0, INITVAL_0E = 0, INITVAL_0F = 0, INITVAL_10 = 0,
    INITVAL_11 = 0, INITVAL_12 = 0, INITVAL_13 = 0, INITVAL_14 = 0, INITVAL_15 = 0, INITVAL_16 =
    0, INITVAL_17 = 0, INITVAL_18 = 0, INITVAL_19 = 0, INITVAL_1A = 0, INITVAL_1B = 0, INITVAL_1C
    = 0, INITVAL_1D = 0, INITVAL_1E = 0, INITVAL_1F = 0, INITVAL_20 = 0, INITVAL_21 = 0,
    INITVAL_22 = 0, INITVAL_23 = 0, INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 =
    0, INITVAL_28 = 0, INITVAL_29 = 0, INITVAL_2A = 0, INITVAL_2B = 0, INITVAL_2C = 0, INITVAL_2D
    = 0, INITVAL_2E = 0, INITVAL_2F = 0, INITVAL_30 = 0, INITVAL_31 = 0, INITVAL_32 = 0,
    INITVAL_33 = 0, INITVAL_34 = 0, INITVAL_35 = 0, INITVAL_36 = 0, INITVAL_37 = 0, INITVAL_38 =
    0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0, INITVAL_3C = 0, INITVAL_3D = 0, INITVAL_3E
    = 0, INITVAL_3F = 0;
  localparam [64 * 320 - 1:0] INIT = {
    INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39,
    INITVAL_38, INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32,
    INITVAL_31, INITVAL_30, INITVAL_2F, INITVAL_2E, INITVAL_2D, INITVAL_2C, INITVAL_2B,
    INITVAL_2A, INITVAL_29, INITVAL_28, INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24,
    INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20, INITVAL_1F, INITVAL_1E, INITVAL_1D,
    INITVAL_1C, INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18, INITVAL_17, INITVAL_16,
    INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10, INITVAL_0F,
    INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A, INITVAL_09, INITVAL_08,
    INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04, INITVAL_03, INITVAL_02, INITVAL_01,
    INITVAL_00};

  reg [35:0] rows [0:511];
  integer i;
  initial
    for (i = 0; i < 512; i = i + 1)
      rows[i] = {INIT[40 * i + 20 +: 18], INIT[40 * i +: 18]};

  wire [17:0] dia = {
    DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4,
    DIA3, DIA2, DIA1, DIA0};
  wire [13:0] ada = {
    ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
  wire [17:0] dib = {
    DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4,
    DIB3, DIB2, DIB1, DIB0};
  wire [13:0] adb = {
    ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
  wire [35:0] data_a = DATA_WIDTH_A == 36 ? {dib, dia} : {18'b0, dia};
  wire [35:0] data_b = {18'b0, dib};
  wire clock_a = CLKAMUX == "INV" ? ~CLKA : CLKA;
  wire clock_b = CLKBMUX == "INV" ? ~CLKB : CLKB;
  wire [5:0] start_a, start_b;
  wire [35:0] word_a, word_b, mask_a, mask_b, q_a, q_b;
  wire on_a, on_b;

  DP16KD_ADDRESS #(.WIDTH(DATA_WIDTH_A), .CSDECODE(CSDECODE_A))
    address_a (.ad(ada), .ce(CEA), .cs({CSA2, CSA1, CSA0}), .on(on_a), .start(start_a),
               .word(word_a), .mask(mask_a));
  DP16KD_ADDRESS #(.WIDTH(DATA_WIDTH_B), .CSDECODE(CSDECODE_B))
    address_b (.ad(adb), .ce(CEB), .cs({CSB2, CSB1, CSB0}), .on(on_b), .start(start_b),
               .word(word_b), .mask(mask_b));

  // A synchronous reset of a port's output also keeps the port from writing.
  wire writes_a = on_a & WEA & ~(RESETMODE == "SYNC" & RSTA);
  wire writes_b = on_b & WEB & ~(RESETMODE == "SYNC" & RSTB) & DATA_WIDTH_B != 36;
  wire [35:0] changed_a = writes_a ? mask_a : 36'b0, changed_b = writes_b ? mask_b : 36'b0;
  // What the other port changes of the row.
  wire [8:0] row_a = ada[13:5], row_b = adb[13:5];
  wire [35:0] other_a = row_a == row_b ? changed_b : 36'b0;
  wire [35:0] other_b = row_a == row_b ? changed_a : 36'b0;
  wire [35:0] in_a = data_a << start_a, in_b = data_b << start_b;
  wire [35:0] old_a = rows[row_a], old_b = rows[row_b];
  wire [35:0] own_a = (old_a & ~mask_a) | (in_a & mask_a);
  wire [35:0] own_b = (old_b & ~mask_b) | (in_b & mask_b);
  wire [35:0] new_a = (own_a & ~other_a) | ((in_b ^ (36'bx & changed_a)) & other_a);
  wire [35:0] new_b = (own_b & ~other_b) | ((in_a ^ (36'bx & changed_b)) & other_b);
  always @(posedge clock_a) if (writes_a) rows[row_a] <= new_a;
  always @(posedge clock_b) if (writes_b) rows[row_b] <= new_b;

  wire [35:0] seen_a = WEA & WRITEMODE_A == "WRITETHROUGH" ? own_a : old_a;
  wire [35:0] seen_b = WEB & WRITEMODE_B == "WRITETHROUGH" ? own_b : old_b;
  DP16KD_OUTPUT #(.REGMODE(REGMODE_A), .RESETMODE(RESETMODE))
    output_a (.clock(clock_a), .rst(RSTA), .load(on_a & (~WEA | WRITEMODE_A != "NORMAL")),
              .oce(OCEA), .d(((seen_a ^ (36'bx & other_a)) & word_a) >> start_a), .q(q_a));
  DP16KD_OUTPUT #(.REGMODE(REGMODE_B), .RESETMODE(RESETMODE))
    output_b (.clock(clock_b), .rst(RSTB), .load(on_b & (~WEB | WRITEMODE_B != "NORMAL")),
              .oce(OCEB), .d(((seen_b ^ (36'bx & other_b)) & word_b) >> start_b), .q(q_b));
  assign {
    DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4,
    DOB3, DOB2, DOB1, DOB0,
    DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4,
    DOA3, DOA2, DOA1, DOA0
  } = DATA_WIDTH_B == 36 ? q_b : {q_b[17:0], q_a[17:0]};
endmodule

// What a port's address says: whether the port is selected, the first bit of its word in the row,
// and the bits of the row that are its word, and those of them that a write changes.
module DP16KD_ADDRESS #(parameter WIDTH = 18, parameter [39:0] CSDECODE = "0b000") (
  input [13:0] ad,
  input ce,
  input [2:0] cs,
  output on,
  output [5:0] start,
  output [35:0] word, mask
);
  assign on = ce & cs == {CSDECODE[16], CSDECODE[8], CSDECODE[0]};  // its last three digits
  assign word = {WIDTH{1'b1}} << start;
  generate
    if (WIDTH == 36) begin
      assign start = 0;
      assign mask = {{9{ad[3]}}, {9{ad[2]}}, {9{ad[1]}}, {9{ad[0]}}};
    end else if (WIDTH == 18) begin
      assign start = ad[4] ? 18 : 0;
      assign mask = {18'b0, {9{ad[1]}}, {9{ad[0]}}} << start;
    end else begin
      assign start = 9 * ad[4:3] + (WIDTH == 9 ? 3'd0 : ad[2:0] & ~(WIDTH - 1));
      assign mask = word;
    end
  endgenerate
endmodule

// A port's output: what is read, and the register behind it.
module DP16KD_OUTPUT #(parameter REGMODE = "NOREG", RESETMODE = "SYNC") (
  input clock, rst, load, oce,
  input [35:0] d,
  output [35:0] q
);
  reg [35:0] read, held;
  generate
    if (RESETMODE == "ASYNC")
      always @(posedge clock or posedge rst)
        if (rst) begin
          read <= 0;
          held <= 0;
        end else begin
          if (load) read <= d;
          if (oce) held <= read;
        end
    else
      always @(posedge clock)
        if (rst) begin
          read <= 0;
          held <= 0;
        end else begin
          if (load) read <= d;
          if (oce) held <= read;
        end
  endgenerate
  assign q = REGMODE == "OUTREG" ? held : read;
endmodule

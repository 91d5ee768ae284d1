// MULT18X18D of the ECP5, as far as it multiplies A and B.
// After Lattice FPGA-TN-02205, "ECP5 and ECP5-5G sysDSP Usage Guide". Each of the registers input A,
// input B, pipeline and output is there when its clock is not "NONE"; it is loaded at the rising
// edge when the enable that REG_*_CE names is 1, and cleared at it (RESETMODE "SYNC") when the reset
// that REG_*_RST names is 1, enabled or not. The vendor's simulation library says the same of
// registers, enables, resets and signs. SIGNEDA and SIGNEDB do not change while it works.
// Not modelled: clocks but CLK0, shifted operands (SOURCEA, SOURCEB), input C (which
// only shifts on), RESETMODE "ASYNC".
module MULT18X18D (
  input A0, A1, A2, A3, A4, A5, A6, A7, A8, A9, A10, A11, A12, A13, A14, A15, A16, A17,
  input B0, B1, B2, B3, B4, B5, B6, B7, B8, B9, B10, B11, B12, B13, B14, B15, B16, B17,
  input C0, C1, C2, C3, C4, C5, C6, C7, C8, C9, C10, C11, C12, C13, C14, C15, C16, C17,
  input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
  input CLK0, CE0, CE1, CE2, CE3, RST0, RST1, RST2, RST3,
  output P0, P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P11, P12, P13, P14, P15, P16, P17, P18,
  P19, P20, P21, P22, P23, P24, P25, P26, P27, P28, P29, P30, P31, P32, P33, P34, P35
);
  parameter REG_INPUTA_CLK = "NONE";
  parameter REG_INPUTA_CE = "CE0";
  parameter REG_INPUTA_RST = "RST0";
  parameter REG_INPUTB_CLK = "NONE";
  parameter REG_INPUTB_CE = "CE0";
  parameter REG_INPUTB_RST = "RST0";
  parameter REG_PIPELINE_CLK = "NONE";
  parameter REG_PIPELINE_CE = "CE0";
  parameter REG_PIPELINE_RST = "RST0";
  parameter REG_OUTPUT_CLK = "NONE";
  parameter REG_OUTPUT_CE = "CE0";
  parameter REG_OUTPUT_RST = "RST0";
  parameter RESETMODE = "SYNC";

  wire [3:0] ce  = {CE3, CE2, CE1, CE0};
  wire [3:0] rst = {RST3, RST2, RST1, RST0};

  wire [17:0] a = {A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1,
  A0};
  wire [17:0] b = {B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1,
  B0};
  wire [17:0] a_held, b_held;
  wire signed [18:0] a_wide = {SIGNEDA & a_held[17], a_held};
  wire signed [18:0] b_wide = {SIGNEDB & b_held[17], b_held};
  wire signed [37:0] product = a_wide * b_wide;
  wire [35:0] between, p;

  DSP_REGISTER #(.WIDTH(18), .CLK(REG_INPUTA_CLK), .CE(REG_INPUTA_CE), .RST(REG_INPUTA_RST))
    register_a (.clk(CLK0), .ce(ce), .rst(rst), .d(a), .q(a_held));
  DSP_REGISTER #(.WIDTH(18), .CLK(REG_INPUTB_CLK), .CE(REG_INPUTB_CE), .RST(REG_INPUTB_RST))
    register_b (.clk(CLK0), .ce(ce), .rst(rst), .d(b), .q(b_held));
  DSP_REGISTER #(.WIDTH(36), .CLK(REG_PIPELINE_CLK), .CE(REG_PIPELINE_CE), .RST(REG_PIPELINE_RST))
    register_pipeline (.clk(CLK0), .ce(ce), .rst(rst), .d(product[35:0]), .q(between));
  DSP_REGISTER #(.WIDTH(36), .CLK(REG_OUTPUT_CLK), .CE(REG_OUTPUT_CE), .RST(REG_OUTPUT_RST))
    register_output (.clk(CLK0), .ce(ce), .rst(rst), .d(between), .q(p));

  assign {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19,
  P18, P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0} = p;

  generate
    if (RESETMODE != "SYNC")
      not_modelled asynchronous_reset();
  endgenerate
endmodule

module DSP_REGISTER #(parameter WIDTH = 18, CLK = "NONE", CE = "CE0", RST = "RST0") (
  input clk,
  input [3:0] ce, rst,
  input [WIDTH - 1:0] d,
  output [WIDTH - 1:0] q
);
  localparam ENABLE = CE == "CE0" ? 0 : CE == "CE1" ? 1 : CE == "CE2" ? 2 : 3;
  localparam RESET = RST == "RST0" ? 0 : RST == "RST1" ? 1 : RST == "RST2" ? 2 : 3;
  generate
    if (CLK == "NONE")
      assign q = d;
    else if (CLK == "CLK0") begin
      reg [WIDTH - 1:0] state;
      always @(posedge clk)
        if (rst[RESET])
          state <= 0;
        else if (ce[ENABLE])
          state <= d;
      assign q = state;
    end else
      not_modelled other_clock();
  endgenerate
endmodule

// Cells of the iCE40 as a simulation of netlists has them.

module SB_LUT4 #(parameter [15:0] LUT_INIT = 0) (output O, input I0, I1, I2, I3);
  localparam [15:0] I = LUT_INIT;
  assign O = I3 ? I2 ? I1 ? (I0 ? I[15] : I[14]) : (I0 ? I[13] : I[12])
                       : I1 ? (I0 ? I[11] : I[10]) : (I0 ? I[9] : I[8])
                 : I2 ? I1 ? (I0 ? I[7] : I[6]) : (I0 ? I[5] : I[4])
                       : I1 ? (I0 ? I[3] : I[2]) : (I0 ? I[1] : I[0]);
endmodule

// The clock of the pin takes the place of the PLL's, which has settled at once.
module SB_PLL40_CORE (
  input REFERENCECLK, EXTFEEDBACK, BYPASS, RESETB, LATCHINPUTVALUE, SDI, SCLK,
  input [7:0] DYNAMICDELAY,
  output PLLOUTCORE, PLLOUTGLOBAL, LOCK, SDO
);
  parameter FEEDBACK_PATH = "SIMPLE", PLLOUT_SELECT = "GENCLK";
  parameter DELAY_ADJUSTMENT_MODE_FEEDBACK = "FIXED", DELAY_ADJUSTMENT_MODE_RELATIVE = "FIXED";
  parameter SHIFTREG_DIV_MODE = 0, FDA_FEEDBACK = 0, FDA_RELATIVE = 0, FILTER_RANGE = 0;
  parameter DIVR = 0, DIVF = 0, DIVQ = 0, ENABLE_ICEGATE = 0, TEST_MODE = 0;
  assign PLLOUTCORE = REFERENCECLK;
  assign PLLOUTGLOBAL = REFERENCECLK;
  assign LOCK = 1;
endmodule

module SB_PLL40_PAD (
  input PACKAGEPIN, EXTFEEDBACK, BYPASS, RESETB, LATCHINPUTVALUE, SDI, SCLK,
  input [7:0] DYNAMICDELAY,
  output PLLOUTCORE, PLLOUTGLOBAL, LOCK, SDO
);
  parameter FEEDBACK_PATH = "SIMPLE", PLLOUT_SELECT = "GENCLK";
  parameter DELAY_ADJUSTMENT_MODE_FEEDBACK = "FIXED", DELAY_ADJUSTMENT_MODE_RELATIVE = "FIXED";
  parameter SHIFTREG_DIV_MODE = 0, FDA_FEEDBACK = 0, FDA_RELATIVE = 0, FILTER_RANGE = 0;
  parameter DIVR = 0, DIVF = 0, DIVQ = 0, ENABLE_ICEGATE = 0, TEST_MODE = 0;
  assign PLLOUTCORE = PACKAGEPIN;
  assign PLLOUTGLOBAL = PACKAGEPIN;
  assign LOCK = 1;
endmodule

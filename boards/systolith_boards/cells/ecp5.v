// Cells of the ECP5 as a simulation of netlists has them.

module LUT4 #(parameter [15:0] INIT = 0) (input A, B, C, D, output Z);
  assign Z = D ? C ? B ? (A ? INIT[15] : INIT[14]) : (A ? INIT[13] : INIT[12])
                       : B ? (A ? INIT[11] : INIT[10]) : (A ? INIT[9] : INIT[8])
                 : C ? B ? (A ? INIT[7] : INIT[6]) : (A ? INIT[5] : INIT[4])
                       : B ? (A ? INIT[3] : INIT[2]) : (A ? INIT[1] : INIT[0]);
endmodule

// The clock of the pin takes the place of the PLL's, which has settled at once.
module EHXPLLL (
  input CLKI, CLKFB, RST, STDBY, PHASESEL0, PHASESEL1, PHASEDIR, PHASESTEP, PHASELOADREG,
  input PLLWAKESYNC, ENCLKOP,
  output CLKOP, LOCK
);
  parameter CLKI_DIV = 1, CLKFB_DIV = 1, CLKOP_DIV = 1, CLKOP_CPHASE = 0, CLKOP_FPHASE = 0;
  parameter CLKOP_ENABLE = "ENABLED", FEEDBK_PATH = "CLKOP", OUTDIVIDER_MUXA = "DIVA";
  parameter PLLRST_ENA = "DISABLED", INTFB_WAKE = "DISABLED", STDBY_ENABLE = "DISABLED";
  parameter DPHASE_SOURCE = "DISABLED";
  assign CLKOP = CLKI;
  assign LOCK = 1;
endmodule

// The design under test: none, all that is measured is in the models.
`timescale 1ns / 1ns
module empty;
endmodule

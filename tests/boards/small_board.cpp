// A small board behind its two pins, as a library: bytes in, cycles, bytes out.
#include <cstddef>
#include <cstdint>
#include <deque>
#include "Vboard.h"

struct Board {
    Vboard top;
    int divisor;
    std::deque<uint8_t> in;
    int in_bit = -1, in_left = 0;       // of the byte that is sent; -1: none
    int out_bit = -1, out_left = 0;     // of the byte that comes
    uint8_t value = 0;
    uint64_t cycles = 0;

    void drive() {
        if (in_left) { --in_left; return; }
        if (in_bit == 9) { in.pop_front(); in_bit = -1; }
        if (in_bit < 0 && in.empty()) { top.rx = 1; return; }
        ++in_bit;
        top.rx = in_bit == 0 ? 0 : in_bit == 9 ? 1 : in.front() >> (in_bit - 1) & 1;
        in_left = divisor - 1;
    }
    bool sample() {                     // whether a byte is complete
        if (out_bit < 0) {
            if (!top.tx) { out_bit = 0; out_left = divisor + divisor / 2; value = 0; }
            return false;
        }
        if (--out_left) return false;
        out_left = divisor;
        if (out_bit == 8) { out_bit = -1; return true; }
        value |= top.tx << out_bit++;
        return false;
    }
    bool cycle() {
        drive();
        top.clk = 0; top.eval();
        top.clk = 1; top.eval();
        ++cycles;
        return sample();
    }
};

extern "C" {
void* board_open(int divisor) {
    Board* board = new Board;
    board->divisor = divisor;
    board->top.rx = 1;
    board->top.rst = 1;
    for (int i = 0; i < 3; ++i) board->cycle();
    board->top.rst = 0;
    return board;
}
void board_reset(void* handle) {
    Board* board = static_cast<Board*>(handle);
    board->top.rst = 1;
    board->cycle();
    board->top.rst = 0;
}
void board_send(void* handle, const uint8_t* data, size_t count) {
    Board* board = static_cast<Board*>(handle);
    board->in.insert(board->in.end(), data, data + count);
}
// Up to `cycles` cycles; ends early when bytes have come and none has for 20 bits.
size_t board_run(void* handle, uint64_t cycles, uint8_t* out, size_t room) {
    Board* board = static_cast<Board*>(handle);
    size_t count = 0;
    uint64_t quiet = 0;
    for (uint64_t i = 0; i < cycles && count < room; ++i) {
        if (board->cycle()) { out[count++] = board->value; quiet = 0; }
        if (count && ++quiet > 20u * board->divisor) break;
    }
    return count;
}
uint64_t board_cycles(void* handle) { return static_cast<Board*>(handle)->cycles; }
void board_close(void* handle) { delete static_cast<Board*>(handle); }
}

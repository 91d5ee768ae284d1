// A Verilated chip behind its serial line: a clock, and bits on two wires. One call runs many
// cycles; there is no Python per cycle.

#include <cstdint>
#include <deque>

#include "Vchip.h"
#include "verilated.h"

namespace {

struct Chip {
    VerilatedContext context;
    Vchip* top = nullptr;
    unsigned divisor;        // cycles of a bit
    uint64_t cycle = 0;
    std::deque<uint8_t> in;  // to the chip
    std::deque<uint8_t> out;
    unsigned sending = 0;    // bits of the frame on uart_rx that are left, with the current one
    uint32_t frame = 0;
    unsigned send_count = 0;
    unsigned receiving = 0;  // bits of the frame on uart_tx that are left
    uint32_t received = 0;
    unsigned receive_count = 0;

    void tick() {
        if (!sending && !in.empty()) {
            frame = in.front() << 1 | 1u << 9;  // start bit, data, stop bit
            in.pop_front();
            sending = 10, send_count = divisor;
        }
        top->uart_rx = sending ? frame & 1 : 1;
        if (sending && !--send_count) frame >>= 1, sending--, send_count = divisor;

        top->clk = 0;
        top->eval();
        top->clk = 1;
        top->eval();
        cycle++;

        bool level = top->uart_tx;
        if (!receiving) {
            if (!level && cycle > divisor)  // the middle of the start bit comes in half a bit
                receiving = 10, receive_count = divisor / 2 + 1, received = 0;
        } else if (!--receive_count) {
            received = received >> 1 | uint32_t(level) << 9;
            receive_count = divisor;
            if (!--receiving && received & 1u << 9 && !(received & 1)) out.push_back(received >> 1);
        }
    }
};

}  // namespace

extern "C" {

// Where a seed is given, what has no initial value begins at random.
void* chip_new(unsigned divisor, unsigned seed) {
    Chip* chip = new Chip;
    chip->divisor = divisor;
    if (seed) chip->context.randReset(2), chip->context.randSeed(seed);
    chip->top = new Vchip{&chip->context, "chip"};
    chip->top->uart_rx = 1;
    return chip;
}

void chip_free(void* pointer) {
    Chip* chip = static_cast<Chip*>(pointer);
    chip->top->final();
    delete chip->top;
    delete chip;
}

void chip_send(void* pointer, const uint8_t* bytes, uint64_t count) {
    Chip* chip = static_cast<Chip*>(pointer);
    chip->in.insert(chip->in.end(), bytes, bytes + count);
}

// Run until so many bytes have come from the chip, or so many cycles have passed; the bytes.
uint64_t chip_receive(void* pointer, uint8_t* bytes, uint64_t count, uint64_t cycles) {
    Chip* chip = static_cast<Chip*>(pointer);
    for (uint64_t end = chip->cycle + cycles; chip->out.size() < count && chip->cycle < end;)
        chip->tick();
    uint64_t found = chip->out.size() < count ? chip->out.size() : count;
    for (uint64_t i = 0; i < found; i++) bytes[i] = chip->out.front(), chip->out.pop_front();
    return found;
}

void chip_run(void* pointer, uint64_t cycles) {
    while (cycles--) static_cast<Chip*>(pointer)->tick();
}

uint64_t chip_cycle(void* pointer) { return static_cast<Chip*>(pointer)->cycle; }
unsigned chip_leds(void* pointer) { return static_cast<Chip*>(pointer)->top->led; }

}

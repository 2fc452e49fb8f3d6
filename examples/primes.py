#!/usr/bin/env python3
"""Reads a number and prints the primes below it: echo 30 | stockade run --stdin - --script examples/primes.py"""

import sys

limit = int(sys.stdin.readline())
is_prime = bytearray([1]) * limit
for number in range(2, limit):
    if is_prime[number]:
        print(number)
        is_prime[number * number :: number] = bytes(len(range(number * number, limit, number)))

"""The engine: plans a suite, drives its workers, stores rows and judges them."""

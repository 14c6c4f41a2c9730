"""Converts NanoDet-g, published under Apache-2.0, into weights of motserve."""

"""Phone recognition: transcripts, frames, alignment, decoding."""

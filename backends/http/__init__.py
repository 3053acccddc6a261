"""HTTP under the providers' SDKs: one transport with deadlines that keeps every reply byte for byte."""
